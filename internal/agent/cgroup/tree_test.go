package cgroup

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testTree makes a tree in a group of its own of the machine's, which nothing
// else is in.
func testTree(t *testing.T) *Tree {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(root, "banger-test-")
		if err != nil {
			break
		}
		t.Cleanup(func() { removeGroups(t, dir) })
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		tree, err := create(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.top.Close() })
		// The whole machine's limits are not for a test.
		tree.limited = true
		return tree
	}
	t.Skip("SKIPPED: needs root and version 2 of control groups")
	return nil
}

func removeGroups(t *testing.T, dir string) {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		eventually(t, func() bool { return os.Remove(dirs[i]) == nil })
	}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it didn't happen in time")
		}
	}
}

// start starts a shell script in a group. The channel is closed when it has
// ended.
func start(t *testing.T, g *Group, script string) (ended <-chan struct{}, out *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	g.Attach(cmd.SysProcAttr)
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = r.Close()
	})
	return done, bufio.NewReader(r)
}

func (t *Tree) groups(tb testing.TB) []string {
	tb.Helper()
	dir, err := openDir(t.top, commands)
	if err != nil {
		tb.Fatal(err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestGroupPerCommand: a command has a group of its own, which goes with its
// last process.
func TestGroupPerCommand(t *testing.T) {
	tree := testTree(t)
	g, err := tree.Command()
	if err != nil {
		t.Fatal(err)
	}
	ended, out := start(t, g, "cat /proc/self/cgroup; sleep 600 >/dev/null 2>&1 & echo $!")
	var lines []string
	for range 32 { // a machine with version 1 as well has a line for each hierarchy
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
		if !strings.Contains(line, ":") {
			break
		}
	}
	if all := strings.Join(lines, ""); !strings.Contains(all, "/banger/commands/"+g.name+"\n") {
		t.Errorf("the command is in\n%s", all)
	}
	<-ended
	g.Close()
	if got := tree.groups(t); len(got) != 1 {
		t.Fatalf("a command left a process behind; groups %q", got)
	}
	left := tree.processes()
	if len(left) != 1 {
		t.Fatalf("processes %v", left)
	}
	// A successor of this process knows of it, and clears up.
	heir := Inherited(duplicate(t, tree.File()))
	heir.limited = true
	if err := syscall.Kill(left[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		g, err := heir.Command()
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		return len(tree.groups(t)) == 0
	})
}

func duplicate(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestEnd: all commands end, those that don't want to by force.
func TestEnd(t *testing.T) {
	tree := testTree(t)
	for _, script := range []string{
		"echo ready; sleep 600",
		"trap '' TERM HUP; echo ready; sleep 600; sleep 600",
		"echo ready; kill -STOP $$; sleep 600",
	} {
		g, err := tree.Command()
		if err != nil {
			t.Fatal(err)
		}
		_, out := start(t, g, script)
		if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	tree.End(200 * time.Millisecond)
	eventually(t, func() bool { return len(tree.processes()) == 0 })
}

// TestInheritedNone: a descriptor of something else, or none, is no tree.
func TestInheritedNone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if Inherited(int(r.Fd())) != nil || Inherited(1<<20) != nil {
		t.Error("a pipe, or nothing, was taken for the control groups")
	}
}

func TestCommandsMemory(t *testing.T) {
	const mib = 1 << 20
	for total, want := range map[uint64]uint64{
		64 * mib: 32 * mib, 256 * mib: 176 * mib, 512 * mib: 416 * mib, 2048 * mib: 1856 * mib, 64 << 30: 64<<30 - 512*mib,
	} {
		if got := commandsMemory(total); got != want {
			t.Errorf("of %d MiB commands may have %d, want %d", total/mib, got/mib, want/mib)
		}
	}
}
