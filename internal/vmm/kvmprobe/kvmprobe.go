// Package kvmprobe finds out whether KVM can run a stock kernel, by running one.
// That /dev/kvm can be opened proves nothing: on some hosts it belongs to a KVM
// that can't boot an unmodified kernel.
package kvmprobe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"banger/internal/api"
)

// timeout is how long a kernel may take under KVM to come to its panic for want
// of a root filesystem. A working KVM takes well under a second.
const timeout = 5 * time.Second

// kvmDevice is the interface to the host's virtualisation.
const kvmDevice = "/dev/kvm"

// VMM is the program that tries. It may be another one than VMs run on later,
// but what one of them can do, another may not.
type VMM struct {
	Name   string   // as users call it
	Binary string   // absolute
	Args   []string // make it boot Kernel with one processor and no disks, its console on the standard output
	Input  string   // on its standard input
	Kernel string   // ELF vmlinux; its command line makes it write its console
}

// Prober tries VMMs and keeps the results.
type Prober struct {
	Cache string // file with the results; see key
	Log   *slog.Logger
}

// Probe returns the cached result, or boots a kernel under KVM, without disks,
// and waits for it to panic because it finds no root filesystem. Results that
// may be different next time (no permission, a kernel that was merely slow) are
// not cached. An error means that nothing could be found out.
func (p *Prober) Probe(ctx context.Context, vmm VMM) (api.KVMProbe, error) {
	if result, ok := openKVM(); !ok {
		return result, nil
	}
	return p.probe(ctx, vmm)
}

// probe is Probe where /dev/kvm can be opened.
func (p *Prober) probe(ctx context.Context, vmm VMM) (api.KVMProbe, error) {
	key, err := newKey(vmm)
	if err != nil {
		return api.KVMProbe{}, err
	}
	if result, ok := readCache(p.Cache, key); ok {
		return result, nil
	}
	started := time.Now()
	attempt, err := vmm.boot(ctx)
	if err != nil {
		return api.KVMProbe{}, fmt.Errorf("probe KVM with %s: %w", vmm.Name, err)
	}
	result := attempt.judge(vmm.Name)
	result.At = started.UTC()
	p.Log.Info("KVM was probed", "with", vmm.Name, "usable", result.Usable, "detail", result.Detail, "took", time.Since(started))
	if attempt.conclusive() {
		if err := writeCache(p.Cache, key, result); err != nil {
			p.Log.Warn("the result of the KVM probe can't be cached", "error", err)
		}
	}
	return result, nil
}

// openKVM tells why /dev/kvm can't be used, if that is plain to see.
func openKVM() (api.KVMProbe, bool) {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	now := time.Now().UTC()
	switch {
	case err == nil:
		return api.KVMProbe{}, true
	case errors.Is(err, os.ErrNotExist):
		return api.KVMProbe{At: now, Detail: "there is no /dev/kvm: virtualisation is off in the firmware, its module isn't loaded, or this is a VM without nested virtualisation"}, false
	case errors.Is(err, os.ErrPermission):
		return api.KVMProbe{At: now, Detail: "no permission to use /dev/kvm; join the group kvm and log in again: sudo usermod -aG kvm $USER"}, false
	default:
		return api.KVMProbe{At: now, Detail: fmt.Sprintf("/dev/kvm can't be opened: %v", err)}, false
	}
}

// attempt is what was seen of a boot.
type attempt struct {
	console  string // what the kernel said, and the VMM if it writes there too
	log      string // what the VMM said
	exit     string // how the VMM ended; "" if it had to be killed
	timedOut bool
}

// Marks in the console: the first line of every kernel, and the panic of one
// that has come to the end of its own boot.
const (
	markStarted = "Linux version"
	markBooted  = "Kernel panic - not syncing: VFS: Unable to mount root fs"
)

func (a attempt) judge(vmm string) api.KVMProbe {
	switch {
	case strings.Contains(a.console, markBooted):
		return api.KVMProbe{Usable: true, Detail: "a stock kernel boots under KVM"}
	case a.timedOut && strings.Contains(a.console, markStarted):
		return api.KVMProbe{Detail: fmt.Sprintf("under KVM a kernel didn't finish booting within %v; it came to: %s", timeout, lastLines(a.console, 1))}
	case a.timedOut:
		return api.KVMProbe{Detail: fmt.Sprintf("/dev/kvm opens, but under it a stock kernel showed no sign of life within %v", timeout)}
	}
	said := lastLines(a.log, 2)
	if said == "" {
		said = lastLines(a.console, 1)
	}
	return api.KVMProbe{Detail: strings.TrimSuffix(fmt.Sprintf("/dev/kvm opens, but %s can't run a stock kernel under it (%s): %s", vmm, a.exit, said), ": ")}
}

// conclusive tells whether another try would show the same.
func (a attempt) conclusive() bool {
	return !a.timedOut || !strings.Contains(a.console, markStarted)
}

// lastLines returns the last n lines of a log that aren't warnings, in one
// line.
func lastLines(log string, n int) string {
	var lines []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "warning: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
