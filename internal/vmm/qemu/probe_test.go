package qemu

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
		run        probeRun
		usable     bool
		conclusive bool
		detail     string
	}{
		{probeRun{console: booting + markBooted + " on x"}, true, true, "boots under KVM"},
		{probeRun{console: booting, timedOut: true}, false, false, "it came to: [    0.4] pci"},
		{probeRun{timedOut: true}, false, true, "no sign of life"},
		{probeRun{exit: "it ended with status 1", log: program + ": failed to initialize kvm: Device or resource busy\n"}, false, true, "status 1): failed to initialize kvm"},
		{probeRun{exit: "it ended with status 0", console: booting}, false, true, "status 0): [    0.4] pci"},
		{probeRun{exit: "it ended with status 0"}, false, true, "(it ended with status 0)"},
	} {
		got := c.run.judge()
		if got.Usable != c.usable || c.run.conclusive() != c.conclusive || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%+v: got %+v, conclusive %v", c.run, got, c.run.conclusive())
		}
		if strings.HasSuffix(got.Detail, ": ") {
			t.Errorf("detail %q breaks off", got.Detail)
		}
	}
}

// newProber returns a prober whose QEMU is a shell script.
func newProber(t *testing.T, script string) *Prober {
	t.Helper()
	dir := t.TempDir()
	p := &Prober{
		Binary: filepath.Join(dir, "qemu"), Kernel: filepath.Join(dir, "vmlinux"), Cache: filepath.Join(dir, "cache", "probe.json"),
		Log: slog.New(slog.DiscardHandler),
	}
	err := errors.Join(
		os.WriteFile(p.Binary, []byte("#!/bin/sh\n"+script), 0o700),
		os.WriteFile(p.Kernel, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBoot(t *testing.T) {
	t.Parallel()
	run, err := newProber(t, "echo '"+markStarted+"'; printf '"+markBooted[:20]+"'; echo '"+markBooted[20:]+"'; exec sleep 600").boot(t.Context())
	if err != nil || !run.judge().Usable {
		t.Errorf("a kernel that boots: %+v, %v", run, err)
	}
	run, err = newProber(t, "echo broken >&2; kill -6 $$").boot(t.Context())
	if err != nil || run.timedOut || !strings.Contains(run.judge().Detail, "signal 6 (aborted)): broken") {
		t.Errorf("a QEMU that aborts: %+v, %v", run, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if run, err = newProber(t, "exec sleep 600").boot(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller who has no time: %+v, %v", run, err)
	}
}

func TestCache(t *testing.T) {
	p := newProber(t, "")
	key, err := p.key()
	if err != nil {
		t.Fatal(err)
	}
	if _, found := readCache(p.Cache, key); found {
		t.Error("something is cached before the first probe")
	}
	want := api.KVMProbe{Usable: true, Detail: "fine", At: time.Now().UTC().Round(0)}
	if err := writeCache(p.Cache, key, want); err != nil {
		t.Fatal(err)
	}
	if got, found := readCache(p.Cache, key); !found || got != want {
		t.Errorf("cached %+v, read %+v, %v", want, got, found)
	}
	for _, file := range []string{p.Binary, p.Kernel} {
		if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 1 # new\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		changed, err := p.key()
		if err != nil {
			t.Fatal(err)
		}
		if _, found := readCache(p.Cache, changed); found {
			t.Errorf("the result is used after %s has changed", file)
		}
	}
	if err := os.WriteFile(p.Cache, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, found := readCache(p.Cache, key); found {
		t.Error("a broken cache is used")
	}
}

func TestMissingQEMU(t *testing.T) {
	_, err := FindBinary(filepath.Join(t.TempDir(), "qemu"))
	if e := api.AsError(err); e.Code != api.CodeHost || !strings.Contains(e.Hint, "apt install qemu-system-x86") {
		t.Errorf("got %+v", e)
	}
}
