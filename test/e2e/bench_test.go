//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/initramfs"
	"banger/internal/kernel"
	"banger/internal/paths"
)

// The benchmarks print figures and judge nothing. make bench runs them.

// BenchmarkColdStart is vm run -- true, from the command to its end, with the
// daemon's phases beside it, and a bare QEMU that boots the same kernel and
// image to the same point: the init system says that it has finished.
func BenchmarkColdStart(b *testing.B) {
	h := modes[0]
	h.must(b, "vm", "run", "--rm", "--", "true") // kernel and image are made at first use

	b.Run("bare-qemu", func(b *testing.B) {
		boot := h.bareBoot(b)
		for b.Loop() {
			boot()
		}
	})
	b.Run("vm-run", func(b *testing.B) {
		phases := map[string]int64{}
		for b.Loop() {
			h.must(b, "vm", "run", "--name", "bench", "--", "true")
			b.StopTimer()
			for _, p := range h.vm(b, "bench").Timing {
				phases[p.Phase] += p.Millis
			}
			h.must(b, "vm", "delete", "--force", "bench")
			b.StartTimer()
		}
		for phase, total := range phases {
			b.ReportMetric(float64(total)/float64(b.N), phase+"-ms")
		}
	})
}

// bareBoot returns a function that boots the image without banger and returns
// when the guest has reported the end of its boot.
func (h *host) bareBoot(b *testing.B) func() {
	k := h.kernel(b)
	dir := b.TempDir()
	initPath, ramfs := filepath.Join(dir, "init"), filepath.Join(dir, "initramfs")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", initPath, "./bareinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build bareinit: %v: %s", err, out)
	}
	f, err := os.Create(ramfs)
	if err != nil {
		b.Fatal(err)
	}
	if err := initramfs.Build(f, initPath, k.BootModules); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	args := []string{
		"-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-kernel", k.Vmlinux, "-initrd", ramfs, "-append", "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests",
		"-drive", "if=none,id=image,format=raw,readonly=on,file=" + filepath.Join(h.home, "share/images/debian-minimal/rootfs.ext4"),
		"-device", "virtio-blk-pci,drive=image", "-device", "virtio-rng-pci",
	}
	return func() {
		ctx, cancel := context.WithTimeout(b.Context(), commandTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
		console, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		var seen bytes.Buffer
		buf := make([]byte, 4096)
		for !bytes.Contains(seen.Bytes(), []byte("bare-boot-finished")) {
			n, err := console.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				b.Fatalf("the bare guest ended: %v\n%s", err, seen.String())
			}
		}
		b.StopTimer()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b.StartTimer()
	}
}

func (h *host) kernel(b *testing.B) kernel.Kernel {
	layout := paths.Layout{Data: filepath.Join(h.home, "share")}
	k, err := kernel.New(kernel.Config{Layout: layout, Log: slog.New(slog.DiscardHandler)}).Find(b.Context(), "generic-6.12")
	if err != nil {
		b.Fatal(err)
	}
	return k
}

// BenchmarkExec is vm exec -- true in a running VM: a new process, connection
// and SSH session each time.
func BenchmarkExec(b *testing.B) {
	h := modes[0]
	h.must(b, "vm", "create", "--name", "bench")
	defer h.run(b, "vm", "delete", "--force", "bench")
	for b.Loop() {
		h.must(b, "vm", "exec", "bench", "--", "true")
	}
}

// BenchmarkWorkspace is what a repository of many small files adds to the making
// of a VM, and how many times as much that is as tar takes for the same files into
// a VM that runs: copying goes on while the guest boots, on the same processors.
func BenchmarkWorkspace(b *testing.B) {
	h := modes[0]
	for _, files := range []int{10_000, 20_000, 100_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			repo := h.manyFiles(b, files)
			var bare, whole, copying, tar time.Duration
			for b.Loop() {
				bare += took(func() { h.must(b, "vm", "run", "--name", "bench", "--", "true") })
				tar += took(func() { h.tarInto(b, repo, "bench") })
				h.must(b, "vm", "delete", "--force", "bench")
				whole += took(func() { h.must(b, "vm", "run", "--name", "bench", repo, "--", "true") })
				for _, p := range h.vm(b, "bench").Timing {
					if p.Phase == "workspace" {
						copying += time.Duration(p.Millis) * time.Millisecond
					}
				}
				h.must(b, "vm", "delete", "--force", "bench")
			}
			b.ReportMetric(0, "ns/op") // several things were timed
			for name, d := range map[string]time.Duration{"bare-s": bare, "with-s": whole, "copy-phase-s": copying, "tar-s": tar} {
				b.ReportMetric(d.Seconds()/float64(b.N), name)
			}
			b.ReportMetric((whole-bare).Seconds()/tar.Seconds(), "added/tar")
		})
	}
}

func took(work func()) time.Duration {
	began := time.Now()
	work()
	return time.Since(began)
}

// manyFiles makes a repository with one commit and one pack, which goes at the
// end of the benchmark.
func (h *host) manyFiles(b *testing.B, files int) string {
	b.Helper()
	repo := filepath.Join(h.scratch, fmt.Sprint("files-", files))
	script := `set -e; git init -q "$1"; cd "$1"; git config gc.auto 0
for i in $(seq $(($2 / 100))); do mkdir $i; for j in $(seq 100); do echo "file $i $j, with a line or two of text" > $i/$j; done; done
git add -A; git commit -q -m first; git gc -q`
	if out, err := h.program(b.Context(), "sh", "-c", script, "sh", repo, fmt.Sprint(files)).CombinedOutput(); err != nil {
		b.Fatalf("make a repository: %v: %s", err, out)
	}
	b.Cleanup(func() { os.RemoveAll(repo) })
	return repo
}

// tarInto copies a directory into a VM without banger's help.
func (h *host) tarInto(b *testing.B, dir, vm string) {
	b.Helper()
	pipe := `tar c -C "$1" . | "$2" vm exec -i "$3" -- sh -c 'mkdir /root/tar && tar x -C /root/tar'`
	if out, err := h.program(b.Context(), "sh", "-c", pipe, "sh", dir, filepath.Join(h.bin, "banger"), vm).CombinedOutput(); err != nil {
		b.Fatalf("tar: %v: %s", err, out)
	}
}

// BenchmarkMemory is not about time: it prints what bangerd and a VMM take up,
// and how large the agent is.
func BenchmarkMemory(b *testing.B) {
	h := modes[0]
	h.must(b, "vm", "create", "--name", "bench")
	defer h.run(b, "vm", "delete", "--force", "bench")
	for b.Loop() {
		continue // nothing to repeat
	}
	b.ReportMetric(residentMiB(b, h.daemonPID(b)), "bangerd-MiB")
	b.ReportMetric(residentMiB(b, h.vm(b, "bench").PID), "vmm-MiB")
	info, err := os.Stat(filepath.Join(h.bin, "banger-vsock-agent"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "agent-MiB")
	b.ReportMetric(0, "ns/op") // meaningless here
}

// residentMiB reads VmRSS, proc(5).
func residentMiB(b *testing.B, pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatalf("read VmRSS of %d: %v", pid, err)
	}
	return kib / 1024
}
