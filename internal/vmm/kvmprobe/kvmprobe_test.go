package kvmprobe

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

func TestJudge(t *testing.T) {
	const booting = "[    0.0] Linux version 6.12\r\n[    0.4] pci 0000:00:00.0: BAR\r\n"
	for _, c := range []struct {
		seen       attempt
		usable     bool
		conclusive bool
		detail     string
	}{
		{attempt{console: booting + markBooted + " on x"}, true, true, "boots under KVM"},
		{attempt{console: booting, timedOut: true}, false, false, "it came to: [    0.4] pci"},
		{attempt{timedOut: true}, false, true, "no sign of life"},
		{attempt{exit: "exit status 1", log: "vmm: failed to initialize kvm: Device or resource busy\n"}, false, true, "the VMM can't run a stock kernel under it (exit status 1): vmm: failed to initialize kvm"},
		{attempt{exit: "exit status 0", console: booting}, false, true, "status 0): [    0.4] pci"},
		{attempt{exit: "exit status 0", log: "vmm: warning: old\n"}, false, true, "(exit status 0)"},
	} {
		got := c.seen.judge("the VMM")
		if got.Usable != c.usable || c.seen.conclusive() != c.conclusive || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%+v: got %+v, conclusive %v", c.seen, got, c.seen.conclusive())
		}
		if strings.HasSuffix(got.Detail, ": ") {
			t.Errorf("detail %q breaks off", got.Detail)
		}
	}
}

// newVMM returns a VMM that is a shell script.
func newVMM(t *testing.T, script string) VMM {
	t.Helper()
	dir := t.TempDir()
	v := VMM{Name: "the VMM", Binary: filepath.Join(dir, "vmm"), Kernel: filepath.Join(dir, "vmlinux")}
	err := errors.Join(
		os.WriteFile(v.Binary, []byte("#!/bin/sh\n"+script), 0o700),
		os.WriteFile(v.Kernel, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBoot(t *testing.T) {
	t.Parallel()
	v := newVMM(t, `echo "$1"; cat; exec sleep 600`)
	v.Args, v.Input = []string{markStarted}, "[    0.5] "+markBooted
	seen, err := v.boot(t.Context())
	if err != nil || !seen.judge(v.Name).Usable || !strings.Contains(seen.console, markStarted) {
		t.Errorf("a kernel that boots: %+v, %v", seen, err)
	}
	seen, err = newVMM(t, "echo broken >&2; kill -6 $$").boot(t.Context())
	if err != nil || seen.timedOut || !strings.Contains(seen.judge("it").Detail, "signal: aborted): broken") {
		t.Errorf("a VMM that aborts: %+v, %v", seen, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if seen, err = newVMM(t, "exec sleep 600").boot(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller who has no time: %+v, %v", seen, err)
	}
}

// TestProbeTriesOnce: a result is kept, for each VMM, until the VMM changes.
func TestProbeTriesOnce(t *testing.T) {
	p := &Prober{Cache: filepath.Join(t.TempDir(), "cache", "probe.json"), Log: slog.New(slog.DiscardHandler)}
	good, bad := newVMM(t, "echo '"+markBooted+"'"), newVMM(t, "exit 1")
	probe := func(v VMM) api.KVMProbe {
		t.Helper()
		result, err := p.probe(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	first, failed := probe(good), probe(bad)
	if !first.Usable || failed.Usable {
		t.Fatalf("good VMM: %+v, bad VMM: %+v", first, failed)
	}
	if probe(good) != first || probe(bad) != failed {
		t.Error("KVM was tried again")
	}
	if err := os.WriteFile(good.Binary, []byte("#!/bin/sh\nexit 1 # new\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if probe(good).Usable {
		t.Error("the result of an earlier version is used")
	}
	if probe(bad) != failed {
		t.Error("another VMM's result was dropped")
	}
	if err := os.WriteFile(p.Cache, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := probe(bad); again.At.Equal(failed.At) {
		t.Error("a broken cache is used")
	}
}

func TestProbeNeedsItsFiles(t *testing.T) {
	p := &Prober{Cache: filepath.Join(t.TempDir(), "probe.json"), Log: slog.New(slog.DiscardHandler)}
	v := newVMM(t, "")
	v.Kernel += ".gone"
	if _, err := p.probe(t.Context(), v); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a kernel: %v", err)
	}
}
