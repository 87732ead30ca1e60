//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/firecracker"
)

// BenchmarkFirecracker is the start of a VM on Firecracker, from the program's
// start to the agent's first answer, beside a bare Firecracker with the same
// kernel, initramfs and size. It prints as well what Firecracker's API takes,
// and what the VMM has in memory beyond the guest's.
func BenchmarkFirecracker(b *testing.B) {
	binary := os.Getenv("BANGER_FIRECRACKER_BIN")
	if binary == "" {
		b.Skip("SKIPPED: BANGER_FIRECRACKER_BIN names no Firecracker")
	}
	h := modes[0]
	h.must(b, "vm", "create", "--no-start", "--name", "bench") // kernel, image and initramfs are made now
	defer h.run(b, "vm", "delete", "--force", "bench")
	h.must(b, "vm", "start", "bench")
	vm := h.vm(b, "bench")
	if vm.Driver != firecracker.Name {
		b.Skipf("SKIPPED: VMs run on %s here; the end-to-end tests' configuration can choose Firecracker", vm.Driver)
	}
	b.Run("bare", func(b *testing.B) {
		start := h.bareFirecracker(b, binary, vm)
		for b.Loop() {
			start()
		}
	})
	b.Run("banger", func(b *testing.B) {
		var start, boot, calls time.Duration
		var extra float64
		for b.Loop() {
			h.must(b, "vm", "stop", "--force", "bench")
			h.must(b, "vm", "start", "bench")
			now := h.vm(b, "bench")
			for _, p := range now.Timing {
				took := time.Duration(p.Millis) * time.Millisecond
				if p.Phase == "vmm" || p.Phase == "kernel-boot" {
					start += took
				}
				if p.Phase == "kernel-boot" { // begins when InstanceStart was answered
					boot += took
				}
			}
			calls += h.apiTime(b, now)
			extra += extraMiB(b, now)
		}
		b.ReportMetric(float64(start.Nanoseconds())/float64(b.N), "ns/op") // of the whole start, only what the bare one does
		b.ReportMetric(float64(boot.Milliseconds())/float64(b.N), "instancestart-to-agent-ms")
		b.ReportMetric(float64(calls.Milliseconds())/float64(b.N), "api-ms")
		b.ReportMetric(extra/float64(b.N), "vmm-extra-MiB")
	})
}

// bareFirecracker returns a function that boots a VM like vm without banger, and
// returns when its agent has answered.
func (h *host) bareFirecracker(b *testing.B, binary string, vm api.VM) func() {
	k := h.kernel(b)
	ramfs, err := filepath.Glob(filepath.Join(h.home, "cache/initramfs", k.Name, "*.cpio"))
	if err != nil || len(ramfs) != 1 {
		b.Fatalf("find the initramfs: %v, %v", ramfs, err)
	}
	dir := b.TempDir()
	type object = map[string]any
	config, err := json.Marshal(object{
		"boot-source":    object{"kernel_image_path": k.Vmlinux, "initrd_path": ramfs[0], "boot_args": firecracker.Cmdline},
		"machine-config": object{"vcpu_count": vm.VCPUs, "mem_size_mib": vm.MemoryMiB},
		"drives": []object{{
			"drive_id": "image", "is_root_device": false, "is_read_only": true,
			"path_on_host": filepath.Join(h.home, "share/images", vm.Image, "rootfs.ext4"),
		}},
		"vsock":   object{"guest_cid": 3, "uds_path": "v.sock"},
		"entropy": object{},
	})
	if err != nil {
		b.Fatal(err)
	}
	configFile := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		b.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(b.Context(), commandTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "--id", "bare", "--api-sock", "api.sock", "--config-file", configFile)
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for !answers(ctx, filepath.Join(dir, "v.sock")) {
			if ctx.Err() != nil {
				b.Fatal("the bare guest doesn't answer")
			}
			time.Sleep(5 * time.Millisecond)
		}
		b.StopTimer()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for _, socket := range []string{"v.sock", "api.sock"} {
			if err := os.Remove(filepath.Join(dir, socket)); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

// answers tells whether the agent behind a vsock answers.
func answers(ctx context.Context, socket string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	// Firecracker lets connections wait for the guest's driver. Without an agent
	// behind it they are refused.
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", guest.PortControl); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "OK ")
}

// apiLine matches a line of Firecracker's log about its API, and its time.
var apiLine = regexp.MustCompile(`(?m)^(\S+) \[[^\]]*:fc_api:INFO\]`)

// apiTime is how long bangerd's requests took, from the first one's arrival to
// the last one's answer.
func (h *host) apiTime(b *testing.B, vm api.VM) time.Duration {
	logs, err := filepath.Glob(filepath.Join(h.home, "state/vms", vm.ID, "firecracker.log"))
	if err != nil || len(logs) == 0 { // jailed
		logs, err = filepath.Glob(filepath.Join(h.home, "state/vms", vm.ID, "jail/*/*/root/firecracker.log"))
	}
	if err != nil || len(logs) != 1 {
		b.Fatalf("find Firecracker's log: %v, %v", logs, err)
	}
	log, err := os.ReadFile(logs[0])
	if err != nil {
		b.Fatal(err)
	}
	lines := apiLine.FindAllStringSubmatch(string(log), -1)
	if len(lines) < 2 {
		b.Fatalf("Firecracker's log tells of %d API requests", len(lines))
	}
	const layout = "2006-01-02T15:04:05.999999999"
	first, err := time.Parse(layout, lines[0][1])
	if err != nil {
		b.Fatal(err)
	}
	last, err := time.Parse(layout, lines[len(lines)-1][1])
	if err != nil {
		b.Fatal(err)
	}
	return last.Sub(first)
}

// extraMiB is what a VMM has in memory besides the guest's memory, which is its
// one mapping of at least that size, as the kernel joins neighbours: Rss in
// /proc/PID/smaps, proc(5).
func extraMiB(b *testing.B, vm api.VM) float64 {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", vm.PID))
	if err != nil {
		b.Fatal(err)
	}
	var total, size int64
	for line := range strings.Lines(string(smaps)) {
		key, value, _ := strings.Cut(line, ":")
		var kib int64
		if key != "Size" && key != "Rss" {
			continue
		}
		if _, err := fmt.Sscan(value, &kib); err != nil {
			b.Fatalf("read %q: %v", line, err)
		}
		if key == "Size" {
			size = kib
		} else if size < vm.MemoryMiB<<10 {
			total += kib
		}
	}
	return float64(total) / 1024
}
