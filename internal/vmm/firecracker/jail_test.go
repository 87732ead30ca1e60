package firecracker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/vmm"
)

func TestFindJailer(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"firecracker-v1.16.1-x86_64", "jailer-v1.16.1-x86_64", "fc/firecracker"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "fc", "link")
	if err := os.Symlink(filepath.Join(dir, "firecracker-v1.16.1-x86_64"), link); err != nil {
		t.Fatal(err)
	}
	for binary, want := range map[string]string{
		"firecracker-v1.16.1-x86_64": "jailer-v1.16.1-x86_64",
		"fc/link":                    "jailer-v1.16.1-x86_64",
		"fc/firecracker":             "",
		"gone":                       "",
	} {
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got := FindJailer(filepath.Join(dir, binary)); got != want {
			t.Errorf("%s: got %q, want %q", binary, got, want)
		}
	}
}

func TestJailUID(t *testing.T) {
	seen := map[int]string{}
	for i := range 1000 {
		id := fmt.Sprintf("%012x", i*7919)
		uid := jailUID(id)
		if uid < firstUID || uid > 0x7fffffff || seen[uid] != "" || uid != jailUID(id) {
			t.Fatalf("%s has uid %#x, as %q has", id, uid, seen[uid])
		}
		seen[uid] = id
	}
}

func TestCgroupLimits(t *testing.T) {
	got := cgroupLimits(vmm.Spec{VCPUs: 2, MemoryMiB: 1024})
	want := []string{"memory.max=1342177280", "cpu.max=300000 100000", "pids.max=130"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJailerModes(t *testing.T) {
	spec := newSpec(t, fakeFiles(t))
	log := testLog(t)
	if wanted, err := (Jailer{}).wanted(spec, log); wanted || err != nil {
		t.Errorf("off: %v, %v", wanted, err)
	}
	if wanted, err := (Jailer{Mode: JailerAuto}).wanted(spec, log); wanted || err != nil {
		t.Errorf("auto without a jailer: %v, %v", wanted, err)
	}
	if _, err := (Jailer{Mode: JailerOn}).wanted(spec, log); !errors.Is(err, api.ErrHost) {
		t.Errorf("on without a jailer: %v", err)
	}
	if err := readable(spec); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(spec.Drives[0].Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readable(spec); err == nil || !strings.Contains(err.Error(), "isn't readable for all users") {
		t.Errorf("got %v", err)
	}
}

func TestFurnish(t *testing.T) {
	spec := newSpec(t, fakeFiles(t))
	j := &jail{root: filepath.Join(jailsDir(spec), Name, instanceID(spec), "root"), uid: os.Getuid()}
	if err := os.MkdirAll(j.root, 0o700); err != nil {
		t.Fatal(err)
	}
	view, err := j.furnish(spec)
	if err != nil {
		t.Fatal(err)
	}
	if view.Kernel != "/kernel" || view.Initramfs != "/initramfs" || view.Drives[1].Path != "/drive1" || spec.Drives[1].Path == "/drive1" {
		t.Errorf("the jail's view is %+v", view)
	}
	for i, d := range spec.Drives {
		inside := d
		inside.Path = filepath.Join(j.root, view.Drives[i].Path)
		want, err := driveSerial(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := driveSerial(inside); err != nil || got != want {
			t.Errorf("drive %s has serial %s in the jail, %s outside; %v", d.ID, got, want, err)
		}
	}
	found, err := findJail(spec, instanceID(spec))
	if err != nil || found.root != j.root {
		t.Errorf("found %+v, %v", found, err)
	}
	if err := removeLeftovers(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(jailsDir(spec)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the jail is left: %v", err)
	}
	for _, path := range append(sharedFiles(spec), spec.Drives[1].Path) {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the jail took a file with it: %v", err)
		}
	}
}

// TestJail looks at a real VM in a jail, whose image is on another filesystem.
func TestJail(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NO JAIL IS TESTED: the jailer needs root")
	}
	binary, f, here := needReal(t)
	if !here {
		return
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.Mkdir(other, 0o755), unix.Mount("tmpfs", other, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(other, unix.MNT_DETACH)
	f.image = filepath.Join(other, "image")
	if err := errors.Join(os.WriteFile(f.image, nil, 0o644), os.Truncate(f.image, 1<<20)); err != nil {
		t.Fatal(err)
	}
	spec := newRealSpec(t, f)
	driver := New(Config{Binary: binary, Log: testLog(t), Jailer: Jailer{Mode: JailerOn, Binary: FindJailer(binary)}})
	m, err := driver.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()

	pid := m.Handle().PID
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", jailUID(spec.ID)); !strings.Contains(string(status), want) {
		t.Errorf("Firecracker's user isn't %q:\n%s", want, status)
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	for _, name := range []string{"kernel", "initramfs", "drive0", "drive1", "etc", "proc"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is in the jail: %v", name, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), jailsDir(spec)) {
		t.Errorf("a mount is left: %v", err)
	}
	group := filepath.Join(cgroupRoot, cgroupParent, instanceID(spec))
	limit, err := os.ReadFile(filepath.Join(group, "memory.max"))
	if want := fmt.Sprintln((spec.MemoryMiB + extraMemoryMiB) << 20); err != nil || string(limit) != want {
		t.Errorf("memory.max is %q, %v", limit, err)
	}

	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{group, jailsDir(spec)} {
		if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
	if log := readLogTail(filepath.Join(spec.StateDir, logName), 1<<20); !strings.Contains(log, "Running Firecracker") {
		t.Errorf("the log wasn't kept: %q", log)
	}
	for _, drive := range spec.Drives {
		if _, err := os.Stat(drive.Path); err != nil {
			t.Error(err)
		}
	}
}
