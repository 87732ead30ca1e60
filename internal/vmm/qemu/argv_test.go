package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/vmm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestArgs(t *testing.T) {
	full := vmm.Spec{
		ID: "0123456789ab", Name: "web",
		StateDir: "/state/vm", RuntimeDir: "/run/vm", Console: "/state/vm/console.log",
		Kernel: "/data/vmlinux", Initramfs: "/cache/initramfs", VCPUs: 2, MemoryMiB: 2048,
		Drives: []vmm.Drive{{ID: "image", Path: "/data/image/rootfs.ext4", ReadOnly: true}, {ID: "disk", Path: "/state/vm/disk.ext4"}},
		NIC:    vmm.NIC{Tap: "banger-tap0", MAC: "52:54:00:12:34:56"},
	}
	bare := vmm.Spec{
		Name: "a,b", StateDir: "/a,b", RuntimeDir: "/a,b", Console: "/a,b/console.log", Kernel: "/a,b/vmlinux", Initramfs: "/a,b/initramfs",
		Cmdline: "console=ttyS0,115200", VCPUs: 1, MemoryMiB: 128,
		Drives: []vmm.Drive{{ID: "disk", Path: "/a,b/disk"}},
	}
	nested := full
	nested.Nested = true
	for name, args := range map[string][]string{
		"kvm.golden":          Args(full, AccelKVM),
		"tcg.golden":          Args(full, AccelTCG),
		"nested-kvm.golden":   Args(nested, AccelKVM),
		"nested-tcg.golden":   Args(nested, AccelTCG),
		"bare-commas.golden":  Args(bare, AccelTCG),
		"probe-no-vm.golden":  ProbeVMM("", "/data/vmlinux").Args,
		"cmdline-only.golden": {cmdline(full)},
	} {
		// An option and its value per line.
		got := strings.ReplaceAll(strings.Join(args, "\n"), "\n-", "\x00-")
		got = strings.ReplaceAll(strings.ReplaceAll(got, "\n", " "), "\x00", "\n") + "\n"
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", name, diff)
		}
	}
}

func TestCheck(t *testing.T) {
	good := vmm.Spec{VCPUs: 1, MemoryMiB: 1, Drives: []vmm.Drive{{ID: "image"}, {ID: "disk"}}}
	if err := check(good); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"image", "", "1st", "a,b", strings.Repeat("x", 21)} {
		bad := good
		bad.Drives = []vmm.Drive{{ID: "image"}, {ID: id}}
		if err := check(bad); err == nil {
			t.Errorf("drive id %q is accepted", id)
		}
	}
	if err := check(vmm.Spec{MemoryMiB: 1}); err == nil {
		t.Error("a machine without a processor is accepted")
	}
}
