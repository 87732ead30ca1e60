package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Tree is the agent's part of the control groups.
type Tree struct {
	top *os.File // the directory banger

	mu      sync.Mutex
	limited bool
	made    int
	left    map[string]bool // groups of commands that have ended, but left something behind
}

// Create makes the tree. It is for PID 1, before an init system starts: the
// mount, which nobody else sees, would undo the options of one that is there.
// It takes Linux 5.7, where a process can be started in a group.
func Create() (*Tree, error) {
	if err := checkKernel(); err != nil {
		return nil, err
	}
	root, err := mount()
	if err != nil {
		return nil, fmt.Errorf("mount the control groups: %w", err)
	}
	defer root.Close()
	return create(root)
}

func checkKernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("look at the kernel: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 5 || major == 5 && minor < 7 {
		return fmt.Errorf("kernel %s can't start a process in a control group: that takes 5.7", release)
	}
	return nil
}

// create makes the tree below an open directory.
func create(root *os.File) (*Tree, error) {
	for _, name := range []string{top, top + "/" + agent, top + "/" + commands} {
		if err := mkdir(root, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
	dir, err := openDir(root, top)
	if err != nil {
		return nil, err
	}
	return newTree(dir), nil
}

// Inherited is the tree whose File this process was given as a descriptor; nil
// if that is something else's. What commands of a predecessor of this process
// left is known.
func Inherited(fd int) *Tree {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	t := newTree(os.NewFile(uintptr(fd), top))
	dir, err := openDir(t.top, commands)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	for _, name := range names {
		var info unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &info, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && info.Mode&unix.S_IFMT == unix.S_IFDIR {
			t.left[name] = true
		}
	}
	return t
}

func newTree(dir *os.File) *Tree { return &Tree{top: dir, left: map[string]bool{}} }

// File is what another process needs for Inherited.
func (t *Tree) File() *os.File { return t.top }

// Agent is the group that the agent itself belongs into. Closing it only lets go
// of it.
func (t *Tree) Agent() (*Group, error) {
	dir, err := openDir(t.top, agent)
	if err != nil {
		return nil, err
	}
	return &Group{t, "", dir}, nil
}

// Group is the control group of one command.
type Group struct {
	tree *Tree
	name string // below commands; "" is the agent's
	dir  *os.File
}

// Command makes a group for a command. Without a tree, t is nil, there is none.
func (t *Tree) Command() (*Group, error) {
	if t == nil {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit()
	t.sweep()
	for {
		t.made++
		name := fmt.Sprintf("%d-%d", os.Getpid(), t.made)
		err := mkdir(t.top, commands+"/"+name)
		if errors.Is(err, unix.EEXIST) {
			continue // of a predecessor with the same pid
		}
		if err != nil {
			return nil, err
		}
		dir, err := openDir(t.top, commands+"/"+name)
		if err != nil {
			return nil, err
		}
		return &Group{t, name, dir}, nil
	}
}

// Attach has a command start in the group; nil is no group.
func (g *Group) Attach(attributes *syscall.SysProcAttr) {
	if g != nil {
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(g.dir.Fd())
	}
}

// Close is called when the command has ended, or couldn't be started. A group
// with something left in it is removed after that has ended too.
func (g *Group) Close() {
	if g == nil {
		return
	}
	_ = g.dir.Close()
	if g.name == "" {
		return
	}
	g.tree.mu.Lock()
	defer g.tree.mu.Unlock()
	g.tree.left[g.name] = true
	g.tree.sweep()
}

// sweep removes the groups that have become empty. The caller holds mu.
func (t *Tree) sweep() {
	for name := range t.left {
		err := unix.Unlinkat(int(t.top.Fd()), commands+"/"+name, unix.AT_REMOVEDIR)
		if err == nil || errors.Is(err, unix.ENOENT) {
			delete(t.left, name)
		}
	}
}

// limit shares the memory out, once the init system has decided that it works
// with these control groups: older ones use version 1, and then the memory is
// that one's. The caller holds mu.
func (t *Tree) limit() {
	var visible unix.Statfs_t
	if t.limited || unix.Statfs("/sys/fs/cgroup", &visible) != nil || visible.Type != unix.CGROUP2_SUPER_MAGIC {
		return
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return
	}
	t.limited = true
	kept := strconv.Itoa(agentMemory)
	for _, setting := range []struct{ file, value string }{
		{"../cgroup.subtree_control", "+memory"},
		{"cgroup.subtree_control", "+memory"},
		{"memory.min", kept},
		{agent + "/memory.min", kept},
		{commands + "/memory.max", strconv.FormatUint(commandsMemory(info.Totalram*uint64(info.Unit)), 10)},
	} {
		// A kernel without the controller does as well as one with another
		// system's limits can.
		_ = t.write(setting.file, setting.value)
	}
}

func (t *Tree) write(name, value string) error {
	fd, err := unix.Openat(int(t.top.Fd()), name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// mount opens a mount of the hierarchy that is in no directory: what was made
// for one process is no business of the guest's.
func mount() (*os.File, error) {
	context, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "cgroup2"), nil
}

func mkdir(base *os.File, name string) error {
	if err := unix.Mkdirat(int(base.Fd()), name, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

func openDir(base *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(base.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
