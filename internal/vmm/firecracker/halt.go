package firecracker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"banger/internal/vmm"
)

// Firecracker has no power button to switch a VM off with: when a guest powers
// off or halts, its kernel says so on the console and stops its processors,
// and Firecracker goes on for ever. Such a VM is recognized by both: the last
// line of the console is the kernel's, and no virtual processor has run on the
// host since. A running kernel, however idle, wakes several times a second;
// halted processors sleep with their interrupts off. Neither sign would do
// alone: anybody in the guest can print that line, and a paused VM is silent.
//
// The kernel prints that line whatever its log level is (KERN_EMERG), as long
// as the command line has console=ttyS0.
const (
	haltInterval = 500 * time.Millisecond // between looks at the console
	haltQuiet    = 4                      // looks in a row at which nothing may have run
)

// haltLine matches what Linux prints last: kernel_power_off and kernel_halt in
// its kernel/reboot.c. Without a way to power off, it halts instead.
var haltLine = regexp.MustCompile(`reboot: (?:Power down|System halted|Power off not available: System halted instead)$`)

// awaitHalt returns nil once the guest of process pid has halted, or ctx's
// error. It looks at every interval.
func awaitHalt(ctx context.Context, console string, pid int, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	watch := haltWatch{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		halted := endsHalted(vmm.ReadTail(console, 512))
		var runs uint64
		if halted {
			var err error
			if runs, err = vcpuRuns(pid); err != nil {
				halted = false // it is just ending, or it is no Firecracker
			}
		}
		if watch.look(halted, runs) {
			return nil
		}
	}
}

// haltWatch decides from a series of looks.
type haltWatch struct {
	quiet int    // looks in a row at which nothing had run
	runs  uint64 // at the last look
}

// look takes what was seen: whether the console ends with the kernel's line,
// and how often the virtual processors have run so far.
func (w *haltWatch) look(halted bool, runs uint64) bool {
	if halted && w.runs == runs && runs > 0 {
		w.quiet++
	} else {
		w.quiet = 0
	}
	w.runs = 0
	if halted {
		w.runs = runs
	}
	return w.quiet >= haltQuiet
}

// endsHalted tells whether the last line on a console is that of a halted
// kernel.
func endsHalted(console string) bool {
	console = strings.TrimRight(console, " \r\n")
	return haltLine.MatchString(console[strings.LastIndexByte(console, '\n')+1:])
}

// vcpuPrefix begins the names of the threads that run virtual processors.
const vcpuPrefix = "fc_vcpu "

// vcpuRuns counts how often the threads that run a Firecracker's virtual
// processors have given up a processor of the host.
func vcpuRuns(pid int) (uint64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil {
		return 0, err
	}
	var total uint64
	found := false
	for _, task := range tasks {
		name, err := os.ReadFile(filepath.Join(task, "comm"))
		if err != nil || !bytes.HasPrefix(name, []byte(vcpuPrefix)) {
			continue // of a thread that ended meanwhile, or of no interest
		}
		status, err := os.ReadFile(filepath.Join(task, "status"))
		if err != nil {
			return 0, fmt.Errorf("look at a virtual processor: %w", err)
		}
		found = true
		total += contextSwitches(status)
	}
	if !found {
		return 0, fmt.Errorf("process %d has no virtual processors", pid)
	}
	return total, nil
}

// contextSwitches adds up both kinds in the content of /proc/PID/task/TID/status,
// proc(5).
func contextSwitches(status []byte) uint64 {
	var total uint64
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch string(key) {
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			if err == nil {
				total += n
			}
		}
	}
	return total
}
