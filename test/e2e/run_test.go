//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
)

// makeRepo makes a git repository whose make test passes only where its
// working tree and history arrived.
func (h *host) makeRepo(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(h.scratch, name)
	script := `set -eu
git init -q -b main "$1"; cd "$1"
printf 'test:\n\t@test "$$(git log --format=%%s)" = first && cat tracked untracked\n' > Makefile
echo tracked > tracked; echo ignored > ignored; echo ignored > .gitignore
git add Makefile tracked .gitignore; git commit -q -m first
git remote add origin https://user:secret@example.org/repo.git
echo changed > tracked; echo untracked > untracked; ln -s tracked link
`
	cmd := h.program(t.Context(), "sh", "-c", script, "sh", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a repository: %v: %s", err, out)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestRunCommand(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		r := h.run(t, "vm", "run", "--rm", "--timing", "--env", "GREETING=hello there", "--", "sh", "-c", `echo "$GREETING"; exit 37`)
		if r.exit != 37 || r.stdout != "hello there\n" {
			t.Errorf("exit %d, stdout %q\n%s", r.exit, r.stdout, r.stderr)
		}
		for _, phase := range []string{"network", "vmm", "kernel-boot", "guest-setup", "ready"} {
			if !strings.Contains(r.stderr, phase) {
				t.Errorf("--timing doesn't show %s:\n%s", phase, r.stderr)
			}
		}
	})
}

func TestRunWorkspace(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		repo := h.makeRepo(t, "my-repo")
		r := h.runWithInput(t, "hi\n", "vm", "run", "--name", "ws", repo, "--", "cat")
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "ws") })
		if r.exit != 0 || r.stdout != "hi\n" {
			t.Fatalf("exit %d, stdout %q\n%s", r.exit, r.stdout, r.stderr)
		}
		in := func(args ...string) string {
			return h.must(t, append([]string{"vm", "exec", "-w", "/root/repo", "ws", "--"}, args...)...)
		}
		if got := in("make", "-s", "test"); got != "changed\nuntracked\n" {
			t.Errorf("make test: %q", got)
		}
		if got := in("git", "status", "--porcelain"); got != " M tracked\n?? link\n?? untracked\n" {
			t.Errorf("git status: %q", got)
		}
		if got := in("git", "remote", "get-url", "origin"); got != "https://example.org/repo.git\n" {
			t.Errorf("remote: %q", got)
		}
		if got := in("readlink", "link"); got != "tracked\n" {
			t.Errorf("link: %q", got)
		}
		if r := h.run(t, "vm", "exec", "ws", "--", "test", "-e", "/root/repo/ignored"); r.exit != 1 {
			t.Errorf("an ignored file was copied")
		}
	})
}

func TestRunBranch(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		repo := h.makeRepo(t, "branch-repo")
		got := h.must(t, "vm", "run", "--rm", "--branch", "topic", "--guest-path", "/srv/own/tree", repo, "--",
			"sh", "-c", "pwd; git status --short --branch")
		if want := "/srv/own/tree\n## topic\n M tracked\n?? link\n?? untracked\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestRunFromAnotherCommit: uncommitted work goes along, with holes and links as
// they are, or is refused before there is a VM.
func TestRunFromAnotherCommit(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		repo := h.makeRepo(t, "from-repo")
		script := `set -eu
cd "$1"
export GIT_INDEX_FILE=$PWD/.git/other
git read-tree HEAD
git update-index --add --cacheinfo "100644,$(echo there | git hash-object -w --stdin),there"
git branch other "$(git commit-tree -p HEAD -m other "$(git write-tree)")"
truncate -s 300M hole
ln untracked second
`
		if out, err := h.program(t.Context(), "sh", "-c", script, "sh", repo).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got := h.must(t, "vm", "run", "--rm", "--branch", "topic", "--from", "other", repo, "--", "sh", "-c",
			`git status --short --branch; cat there; stat -c %h untracked; stat -c %s hole; test $(stat -c %b hole) -lt 100 && echo sparse`)
		if want := "## topic\n M tracked\n?? hole\n?? link\n?? second\n?? untracked\nthere\n2\n314572800\nsparse\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if out, err := h.program(t.Context(), "sh", "-c", `echo mine >"$1/there"`, "sh", repo).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r := h.run(t, "vm", "run", "--rm", "--branch", "topic", "--from", "other", repo, "--", "true")
		if r.exit != 5 || !strings.Contains(r.stderr, "there") || !strings.Contains(r.stderr, "--leave-changes") {
			t.Errorf("exit %d\n%s", r.exit, r.stderr)
		}
	})
}

// TestInOneVM tries what commands can do, in one VM to save boots.
func TestInOneVM(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "one")
		t.Run("signalled", func(t *testing.T) {
			if r := h.run(t, "vm", "exec", "one", "--", "sh", "-c", "kill -TERM $$"); r.exit != 143 {
				t.Errorf("exit %d, want 143\n%s", r.exit, r.stderr)
			}
		})
		t.Run("streams apart", func(t *testing.T) {
			r := h.run(t, "vm", "exec", "one", "--", "sh", "-c", "echo out; echo err >&2")
			if r.stdout != "out\n" || r.stderr != "err\n" {
				t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
			}
		})
		t.Run("arguments exact", func(t *testing.T) {
			if got := h.must(t, "vm", "exec", "one", "--", "printf", "%s|", "a b", "", "$HOME", "'\"\n"); got != "a b||$HOME|'\"\n|" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("interrupt", func(t *testing.T) { h.testInterrupt(t) })
		t.Run("big stream", func(t *testing.T) { h.testStream(t, 64<<20) })
		t.Run("package mirror", func(t *testing.T) {
			if r := h.run(t, "vm", "exec", "one", "--", "apt-get", "update"); r.exit != 0 {
				t.Errorf("apt-get update: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
			}
		})
		t.Run("own name", func(t *testing.T) {
			if got := h.must(t, "vm", "exec", "one", "--", "getent", "hosts", "one.banger"); !strings.Contains(got, h.vm(t, "one").IP) {
				t.Errorf("one.banger resolves to %q", got)
			}
		})
		t.Run("real directories", func(t *testing.T) {
			got := h.must(t, "vm", "exec", "one", "--", "findmnt", "--noheadings", "--output", "FSTYPE", "--target", "/root")
			if got != "ext4\n" {
				t.Errorf("/root is on %q", got)
			}
		})
		t.Run("openssh", func(t *testing.T) {
			r := h.run(t, "vm", "ssh", "one", "-o", "BatchMode=yes", "echo", "by", "openssh")
			if r.exit != 0 || r.stdout != "by openssh\n" {
				t.Errorf("exit %d, stdout %q\n%s", r.exit, r.stdout, r.stderr)
			}
		})
		t.Run("other SSH clients", func(t *testing.T) { h.testSSHClients(t) })
		t.Run("logs", func(t *testing.T) {
			h.must(t, "vm", "exec", "one", "--", "sh", "-c", "echo to the console >/dev/console")
			h.eventually(t, func() bool { return strings.Contains(h.must(t, "vm", "logs", "one"), "to the console") })
			// A module for what this machine hasn't is no error.
			if log := h.must(t, "vm", "logs", "one"); strings.Contains(log, "level=ERROR") {
				t.Errorf("the agent complains:\n%s", log)
			}
		})
		t.Run("list", func(t *testing.T) {
			if vm := h.vm(t, "one"); vm.State != api.StateRunning || vm.PID == 0 {
				t.Errorf("%+v", vm)
			}
		})
	})
}

// testInterrupt presses Ctrl-C while a command runs: the guest's command gets
// the signal, and its way of ending is banger's.
func (h *host) testInterrupt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := h.command(ctx, "vm", "exec", "one", "--", "sh", "-c", `trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 1; done`)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, line); err != nil {
		t.Fatalf("wait for the command: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit status is looked at below
	if got := cmd.ProcessState.ExitCode(); got != 5 || string(rest) != "caught\n" {
		t.Errorf("exit %d, stdout %q, want 5 and caught", got, rest)
	}
}

// testStream sends n random bytes through a guest's cat.
func (h *host) testStream(t *testing.T, n int64) {
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	source := rand.NewChaCha8([32]byte{1})
	sent, got := sha256.New(), sha256.New()
	cmd := h.command(ctx, "vm", "exec", "one", "--", "cat")
	cmd.Stdin = io.TeeReader(io.LimitReader(source, n), sent)
	cmd.Stdout = got
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
}

// TestGuestsApart starts two VMs from one image at once: they can't reach each
// other, nor the host's services, and the image stays as it was.
func TestGuestsApart(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		image := filepath.Join(h.home, "share/images/debian-minimal/rootfs.ext4")
		before := checksum(t, image)
		done := make(chan struct{})
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "two") })
		go func() {
			defer close(done)
			h.run(t, "vm", "create", "--name", "two")
		}()
		h.create(t, "one")
		<-done
		other := h.vm(t, "two")
		if other.State != api.StateRunning {
			t.Fatalf("two is %s", other.State)
		}
		h.must(t, "vm", "exec", "one", "--", "ping", "-c", "1", "-W", "10", gateway)
		if r := h.run(t, "vm", "exec", "one", "--", "ping", "-c", "1", "-W", "3", other.IP); r.exit == 0 {
			t.Error("one guest reaches another")
		}
		for _, name := range []string{"one", "two"} {
			h.must(t, "vm", "exec", name, "--", "sh", "-c", "echo mine > /etc/motd; sync")
		}
		if checksum(t, image) != before {
			t.Error("the image was written to")
		}
	})
}

// gateway is the bridge's default address.
const gateway = "172.16.0.1"

func checksum(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestOffline: once image and kernel are there, a run needs no network at all.
func TestOffline(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make a network namespace without a way out")
	}
	once(t, func(t *testing.T, h *host) {
		repo := h.makeRepo(t, "offline-repo")
		h.must(t, "vm", "run", "--rm", "--", "true")
		h.must(t, "daemon", "stop")
		off := *h
		off.netns = h.netns + "-off"
		if out, err := exec.Command("ip", "netns", "add", off.netns).CombinedOutput(); err != nil {
			t.Fatalf("make a network namespace: %v: %s", err, out)
		}
		t.Cleanup(func() {
			off.must(t, "daemon", "stop")
			if out, err := exec.Command("ip", "netns", "del", off.netns).CombinedOutput(); err != nil {
				t.Errorf("remove the network namespace: %v: %s", err, out)
			}
		})
		if got := off.must(t, "vm", "run", "--rm", repo, "--", "make", "-s", "test"); got != "changed\nuntracked\n" {
			t.Errorf("make test: %q", got)
		}
	})
}

// TestRunPlainDirectories: what is no repository, or has no commit yet, is
// copied as well, with a line that says so.
func TestRunPlainDirectories(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		plain, empty := filepath.Join(h.scratch, "plain"), filepath.Join(h.scratch, "empty")
		script := "mkdir $0; echo hello >$0/f; echo '*.o' >$0/.gitignore; touch $0/x.o; git init -q $1; echo hello >$1/f"
		if out, err := h.program(t.Context(), "sh", "-euc", script, plain, empty).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for dir, note := range map[string]string{plain: "it is not a git repository", empty: "no commit yet"} {
			r := h.run(t, "vm", "run", "--rm", dir, "--", "sh", "-c", "cat f; ls *.o 2>/dev/null; true")
			if r.exit != 0 || r.stdout != "hello\n" || strings.Count(r.stderr, note) != 1 {
				t.Errorf("%s: exit %d, %q\n%s", dir, r.exit, r.stdout, r.stderr)
			}
		}
	})
}
