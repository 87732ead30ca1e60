//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestBadInput: each has its own error and exit status, and leaves nothing
// (which inEachMode checks).
func TestBadInput(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		repo := h.makeRepo(t, "good")
		h.must(t, "vm", "create", "--no-start", "--name", "taken")
		t.Cleanup(func() { h.must(t, "vm", "delete", "taken") })
		tests := []struct {
			name    string
			args    []string
			exit    int
			message string
		}{
			{"unknown image", []string{"--image", "debian-nonesuch"}, 4, `no image "debian-nonesuch"`},
			{"name in use", []string{"--name", "taken"}, 5, `already a VM named "taken"`},
			{"impossible name", []string{"--name", "No_Name"}, 2, `"No_Name" can't be the name`},
			{"no such path", []string{"./nonesuch"}, 2, "nonesuch"},
			{"the root directory", []string{"/"}, 2, "is not a git repository"},
			{"too little memory", []string{"--memory", "1M"}, 2, "1 MiB of memory is too little"},
			{"too much memory", []string{"--memory", "900G"}, 2, "more than this host has"},
			{"branch without path", []string{"--branch", "b"}, 2, "--branch"},
			{"branch exists", []string{"--branch", "main", repo}, 5, "main"},
			{"unknown ref", []string{"--branch", "b", "--from", "nonesuch", repo}, 4, "nonesuch"},
			{"bad env", []string{"--env", "1=2"}, 2, `"1"`},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				args := append([]string{"vm", "run", "--rm"}, tt.args...)
				r := h.run(t, append(args, "--", "true")...)
				if r.exit != tt.exit || !strings.Contains(r.stderr, tt.message) {
					t.Errorf("exit %d, want %d with %q\n%s", r.exit, tt.exit, tt.message, r.stderr)
				}
				if r.stdout != "" {
					t.Errorf("stdout %q", r.stdout)
				}
				if n := strings.Count(strings.TrimSpace(errorLines(r.stderr)), "\n"); n > 1 {
					t.Errorf("the error has more than two lines:\n%s", r.stderr)
				}
			})
		}
	})
}

// errorLines drops the progress from stderr.
func errorLines(stderr string) string {
	_, after, found := strings.Cut(stderr, "banger: ")
	if !found {
		return ""
	}
	return after
}

// TestNoQEMU: a host without QEMU is told which package to install.
func TestNoQEMU(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		path := h.pathWithout(t, "qemu-system-x86_64")
		h.must(t, "daemon", "stop")
		cmd := h.command(t.Context(), "vm", "run", "--rm", "--", "true")
		cmd.Env = append(cmd.Env, "PATH="+path)
		out, _ := cmd.CombinedOutput() // the exit status is looked at below
		t.Cleanup(func() { h.must(t, "daemon", "restart") })
		if got := cmd.ProcessState.ExitCode(); got != 6 || !strings.Contains(string(out), "qemu-system-x86") {
			t.Errorf("exit %d\n%s", got, out)
		}
	})
}

// pathWithout returns a PATH that has every program but one.
func (h *host) pathWithout(t *testing.T, missing string) string {
	t.Helper()
	dir := filepath.Join(h.scratch, "path")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(from)
		if err != nil {
			continue // PATH may name directories that don't exist
		}
		for _, e := range entries {
			if e.Name() != missing {
				// The first directory in PATH wins, so a name may exist already.
				_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name()))
			}
		}
	}
	return dir
}

// TestFullDisk: an image that doesn't fit is told so and leaves nothing.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount a small filesystem")
	}
	once(t, func(t *testing.T, h *host) {
		small := *h
		small.home = filepath.Join(h.scratch, "small")
		// 512 MiB are left free.
		mount := exec.Command("mount", "-t", "tmpfs", "-o", "size=662m", "tmpfs", small.home)
		if err := os.Mkdir(small.home, 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := mount.CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
		t.Cleanup(func() {
			if err := small.stopDaemon(); err != nil {
				t.Error(err)
			}
			if out, err := exec.Command("umount", small.home).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		})
		r := small.run(t, "vm", "run", "--rm", "--", "true")
		if r.exit != 6 || !strings.Contains(r.stderr, "is full") {
			t.Errorf("exit %d\n%s", r.exit, r.stderr)
		}
		for _, pattern := range []string{"share/images/*", "share/kernels/.*", "share/images/.*"} {
			if left, _ := filepath.Glob(filepath.Join(small.home, pattern)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	})
}

// TestInterruptedBuild: a bangerd that is killed while it builds leaves nothing
// once the next one has started, and that one can build.
func TestInterruptedBuild(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		fresh := *h
		fresh.home = filepath.Join(h.scratch, "fresh")
		t.Cleanup(func() {
			if err := fresh.stopDaemon(); err != nil {
				t.Error(err)
			}
			os.RemoveAll(fresh.home)
		})
		cmd := fresh.command(t.Context(), "vm", "run", "--rm", "--", "true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		building := func() bool {
			found, _ := filepath.Glob(filepath.Join(fresh.home, "share/images/.tmp-*/*"))
			return len(found) > 0
		}
		h.eventually(t, building)
		if err := syscall.Kill(fresh.daemonPID(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the run succeeded without its daemon")
		}
		fresh.must(t, "vm", "list")
		if building() {
			t.Error("the half-built image is still there")
		}
		h.eventually(t, func() bool { return len(fresh.processes(t)) == 0 })
	})
}
