package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
)

// probeTimeout is how long a kernel may take under KVM to come to its panic
// for want of a root filesystem. A working KVM takes well under a second.
const probeTimeout = 5 * time.Second

// kvmDevice is the interface to the host's virtualisation.
const kvmDevice = "/dev/kvm"

const kvmGroupHint = "join the group kvm and log in again: sudo usermod -aG kvm $USER"

// Prober finds out whether KVM can run a stock kernel, by running one. That
// /dev/kvm can be opened proves nothing: on some hosts it belongs to a KVM
// that can't boot an unmodified kernel.
type Prober struct {
	Binary string // QEMU, absolute
	Kernel string // ELF vmlinux
	Cache  string // file that keeps the result; see probeKey
	Log    *slog.Logger
}

// Probe returns the cached result, or tries as Try does. An error means that
// nothing could be found out.
func (p *Prober) Probe(ctx context.Context) (api.KVMProbe, error) {
	if result, ok := openKVM(); !ok {
		return result, nil
	}
	key, err := p.key()
	if err != nil {
		return api.KVMProbe{}, err
	}
	if result, ok := readCache(p.Cache, key); ok {
		return result, nil
	}
	return p.Try(ctx)
}

// Try boots a kernel under KVM, without disks, and waits for it to panic
// because it finds no root filesystem. Results that may be different next time
// (no permission, a kernel that was merely slow) are not cached.
func (p *Prober) Try(ctx context.Context) (api.KVMProbe, error) {
	if result, ok := openKVM(); !ok {
		return result, nil
	}
	key, err := p.key()
	if err != nil {
		return api.KVMProbe{}, err
	}
	started := time.Now()
	run, err := p.boot(ctx)
	if err != nil {
		return api.KVMProbe{}, fmt.Errorf("probe KVM: %w", err)
	}
	result := run.judge()
	result.At = started.UTC()
	p.Log.Info("KVM was probed", "usable", result.Usable, "detail", result.Detail, "took", time.Since(started))
	if run.conclusive() {
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
		return api.KVMProbe{At: now, Detail: "no permission to use /dev/kvm; " + kvmGroupHint}, false
	default:
		return api.KVMProbe{At: now, Detail: fmt.Sprintf("/dev/kvm can't be opened: %v", err)}, false
	}
}

// probeRun is what was seen of a probe.
type probeRun struct {
	console  string // what the kernel said
	log      string // what QEMU said
	exit     string // how QEMU ended; "" if it had to be killed
	timedOut bool
}

// Marks in the console: the first line of every kernel, and the panic of one
// that has come to the end of its own boot.
const (
	markStarted = "Linux version"
	markBooted  = "Kernel panic - not syncing: VFS: Unable to mount root fs"
)

func (r probeRun) judge() api.KVMProbe {
	switch {
	case strings.Contains(r.console, markBooted):
		return api.KVMProbe{Usable: true, Detail: "a stock kernel boots under KVM"}
	case r.timedOut && strings.Contains(r.console, markStarted):
		return api.KVMProbe{Detail: fmt.Sprintf("under KVM a kernel didn't finish booting within %v; it came to: %s", probeTimeout, lastLines(r.console, 1))}
	case r.timedOut:
		return api.KVMProbe{Detail: fmt.Sprintf("/dev/kvm opens, but under it a stock kernel showed no sign of life within %v", probeTimeout)}
	default:
		said := lastLines(r.log, 2)
		if said == "" {
			said = lastLines(r.console, 1)
		}
		return api.KVMProbe{Detail: strings.TrimSuffix(fmt.Sprintf("/dev/kvm opens, but QEMU can't run a stock kernel under it (%s): %s", r.exit, said), ": ")}
	}
}

// conclusive tells whether another try would show the same.
func (r probeRun) conclusive() bool {
	return !r.timedOut || !strings.Contains(r.console, markStarted)
}

// boot runs QEMU until the mark appears, QEMU ends or the time is up. No
// process is left.
func (p *Prober) boot(caller context.Context) (probeRun, error) {
	ctx, cancel := context.WithTimeout(caller, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Binary, p.args()...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	var log bytes.Buffer
	cmd.Stderr = &log
	console := &markWriter{mark: []byte(markBooted), found: cancel}
	cmd.Stdout = console
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return probeRun{}, err
	}
	run := probeRun{console: console.String(), log: log.String()}
	switch {
	case strings.Contains(run.console, markBooted):
	case caller.Err() != nil:
		return probeRun{}, caller.Err()
	case ctx.Err() != nil:
		run.timedOut = true
	default:
		run.exit = describeState(cmd.ProcessState)
	}
	return run, nil
}

// args are those of a VM, less all that a kernel without a root needs not.
func (p *Prober) args() []string {
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-machine", machine}
	args = append(args, accelArgs(AccelKVM)...)
	return append(args, "-smp", "1", "-m", "256M", "-action", "reboot=shutdown", "-serial", "stdio",
		"-kernel", p.Kernel, "-append", "console=ttyS0 panic=-1")
}

// markWriter keeps the last of what is written to it and calls found once it
// has seen mark.
type markWriter struct {
	mark  []byte
	found func()

	mu   sync.Mutex
	kept []byte
}

// markKeep is how much a markWriter keeps, in bytes; a kernel's whole boot has
// a few tens of KiB.
const markKeep = 256 << 10

var _ io.Writer = (*markWriter)(nil)

func (w *markWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, b...)
	if extra := len(w.kept) - markKeep; extra > 0 {
		w.kept = w.kept[extra:]
	}
	if bytes.Contains(w.kept, w.mark) {
		w.found()
	}
	return len(b), nil
}

func (w *markWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.kept)
}
