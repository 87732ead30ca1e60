package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/rootless"
)

// fine is a host where nothing is missing.
func fine(uid int) System {
	return System{
		UID: uid, User: "dev", QEMU: "qemu-system-x86_64",
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Open:     func(string) error { return nil },
		Free:     func(string) (uint64, error) { return 100 * gib, nil },
		Rootless: func(context.Context) []rootless.Finding {
			return []rootless.Finding{{Name: "pasta", OK: true, Detail: "/usr/bin/pasta"}}
		},
	}
}

// find returns the finding of a name.
func find(t *testing.T, findings []Finding, name string) Finding {
	t.Helper()
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no finding %q in %+v", name, findings)
	}
	return findings[i]
}

func TestNothingMissing(t *testing.T) {
	for _, uid := range []int{0, 1001} {
		findings := Run(t.Context(), fine(uid), "/data")
		for _, f := range findings {
			if f.Status != OK || f.Detail == "" || f.Mend != nil {
				t.Errorf("uid %d: %+v", uid, f)
			}
		}
		if !Usable(findings) || Fixes(findings) != nil {
			t.Errorf("uid %d: not usable or something to fix", uid)
		}
		rootless := slices.ContainsFunc(findings, func(f Finding) bool { return f.Name == "pasta" })
		if rootless != (uid != 0) {
			t.Errorf("uid %d: pasta looked for: %v", uid, rootless)
		}
	}
}

func without(sys System, missing ...string) System {
	look := sys.LookPath
	sys.LookPath = func(name string) (string, error) {
		if slices.Contains(missing, name) {
			return "", fs.ErrNotExist
		}
		return look(name)
	}
	return sys
}

func TestTools(t *testing.T) {
	findings := Run(t.Context(), without(fine(0), "git", "mke2fs"), "/data")
	if f := find(t, findings, "git"); f.Status != Warn || f.Cost == "" {
		t.Errorf("git: %+v", f)
	}
	f := find(t, Run(t.Context(), without(fine(0), "npm"), "/data"), "npm")
	if f.Status != Warn || !strings.Contains(f.Cost, "default image") || len(f.Mend) != 1 || f.Mend[0].Package != "npm" {
		t.Errorf("npm: %+v", f)
	}
	if f := find(t, findings, "mke2fs"); f.Status != Fail {
		t.Errorf("mke2fs: %+v", f)
	}
	if Usable(findings) {
		t.Error("usable without mke2fs")
	}
	f = find(t, Run(t.Context(), without(fine(0), "git", "apt-get"), "/data"), "git")
	if f.Mend != nil || !strings.Contains(f.Advice, "package git") {
		t.Errorf("without apt-get: %+v", f)
	}
}

func TestRootless(t *testing.T) {
	sys := without(fine(1001), "git")
	sys.Rootless = func(context.Context) []rootless.Finding {
		return []rootless.Finding{
			{Name: "newuidmap", Detail: "not installed", Fix: "sudo apt install uidmap"},
			{Name: "newgidmap", Detail: "not installed", Fix: "sudo apt install uidmap"},
			{Name: "user namespaces", Detail: "forbidden", Fix: "sudo sysctl -w a.b=1"},
			{Name: "odd", Detail: "no fix is known"},
		}
	}
	findings := Run(t.Context(), sys, "/data")
	want := []Fix{
		{Argv: []string{"apt-get", "install", "-y", "git", "uidmap"}},
		{Argv: []string{"sysctl", "-w", "a.b=1"}},
	}
	if diff := cmp.Diff(want, Fixes(findings)); diff != "" {
		t.Error(diff)
	}
	if f := find(t, findings, "odd"); f.Status != Fail || f.Mend != nil || f.Cost == "" {
		t.Errorf("%+v", f)
	}
}

func TestDevices(t *testing.T) {
	tests := []struct {
		dev    string
		err    error
		status Status
		mend   string
	}{
		{"/dev/kvm", fs.ErrPermission, Warn, "usermod -aG kvm dev"},
		{"/dev/kvm", fs.ErrNotExist, Warn, ""},
	}
	for _, tt := range tests {
		sys := fine(1001)
		sys.Open = func(path string) error {
			if path == tt.dev {
				return tt.err
			}
			return nil
		}
		f := find(t, Run(t.Context(), sys, "/data"), tt.dev)
		var mend string
		if len(f.Mend) > 0 {
			mend = f.Mend[0].String()
		}
		if f.Status != tt.status || mend != tt.mend || f.Cost == "" {
			t.Errorf("%s, %v: %+v", tt.dev, tt.err, f)
		}
	}
}

func TestSpace(t *testing.T) {
	for free, want := range map[uint64]Status{2 * gib: Fail, 5 * gib: Warn, 50 * gib: OK} {
		sys := fine(0)
		sys.Free = func(string) (uint64, error) { return free, nil }
		if f := find(t, Run(t.Context(), sys, "/data"), "disk space"); f.Status != want {
			t.Errorf("%d bytes free: %+v", free, f)
		}
	}
	dir := t.TempDir()
	if n, err := free(filepath.Join(dir, "not", "yet")); err != nil || n == 0 {
		t.Errorf("below %s: %d, %v", dir, n, err)
	}
}

// TestHost looks at the real host, of which little is certain.
func TestHost(t *testing.T) {
	sys := Host()
	if _, err := sys.LookPath("sh"); err != nil {
		t.Error(err)
	}
	if _, err := sys.LookPath("no-such-program"); err == nil {
		t.Error("found a program that doesn't exist")
	}
	if err := sys.Open(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("open = %v", err)
	}
	if sys.User == "" {
		t.Error("no login name")
	}
}
