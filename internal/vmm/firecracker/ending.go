package firecracker

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"banger/internal/vmm"
)

// exitLine matches Firecracker's last message. It has been the same since
// before the oldest supported release.
var exitLine = regexp.MustCompile(`Firecracker exiting (?:successfully|with error)\. exit_code=(\d+)`)

// exitCodes are those that Firecracker ends with (FcExitCode in its
// src/vmm/src/lib.rs), in words.
var exitCodes = map[int]string{
	2:   "an unexpected error",
	148: "it made a system call that its filter forbids",
	149: "a bus error (SIGBUS), as when the host has no room for the guest's memory or a disk's file was cut",
	150: "a memory access error (SIGSEGV)",
	151: "a file grew past the limit (SIGXFSZ)",
	152: "a bad configuration",
	153: "bad arguments",
	154: "it used up its processor time (SIGXCPU)",
	155: "a broken pipe (SIGPIPE)",
	156: "a hang-up (SIGHUP)",
	157: "an illegal instruction (SIGILL)",
}

// ending is what is known of a Firecracker's end.
type ending struct {
	vmm.End
	halted   bool   // killed since the guest had halted
	powerOff bool   // Machine.PowerOff had asked for it
	log      string // the end of its messages
}

// describe tells in words why Firecracker ended, or "" if nothing is known.
func (e ending) describe() string {
	code, known := e.exitCode()
	switch {
	case e.halted:
		return "the guest powered off"
	case e.Killed:
		return "it was killed on request"
	case e.ByOOM():
		return "Firecracker was killed by signal 9 (killed)" + vmm.ByOOM
	case e.Signal() != 0:
		return fmt.Sprintf("Firecracker was killed by signal %d (%v)", int(e.Signal()), e.Signal())
	case !known:
		return ""
	case code == 0:
		return e.describeReset()
	}
	reason := fmt.Sprintf("Firecracker failed with status %d", code)
	if words, ok := exitCodes[code]; ok {
		reason += ": " + words
	}
	if said := lastError(e.log + "\n" + e.Console); said != "" {
		reason += ": " + said
	}
	return reason
}

// describeReset tells why the guest reset its machine, which is the only way
// to end Firecracker with success.
func (e ending) describeReset() string {
	if message := vmm.FindPanic(e.Console); message != "" {
		return "the guest's kernel panicked: " + message
	}
	if e.powerOff {
		return "the guest powered off when asked to"
	}
	return vmm.Rebooted
}

// exitCode returns the exit status: that of a child, else what Firecracker
// said about it.
func (e ending) exitCode() (int, bool) {
	if e.State != nil {
		return e.State.ExitCode(), true
	}
	matches := exitLine.FindAllStringSubmatch(e.log, -1)
	if matches == nil {
		return 0, false
	}
	code, err := strconv.Atoi(matches[len(matches)-1][1])
	return code, err == nil
}

// logLine takes the message out of a line of Firecracker's log, which begins
// with a time, and the VM's id, the thread and the level in brackets.
var logLine = regexp.MustCompile(`^\S+ \[[^\]]*:ERROR\] (.*)$`)

// rustError matches how Firecracker's last words on its standard error begin.
var rustError = regexp.MustCompile(`^(?:Error: |thread '[^']*' .*panicked)`)

// lastError returns the last error in a log that tells something: not the
// guest's accesses to hardware that isn't there, and not the exit line.
func lastError(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if rustError.MatchString(line) {
			last = line
			continue
		}
		match := logLine.FindStringSubmatch(line)
		if match != nil && !exitLine.MatchString(match[1]) && !strings.Contains(match[1], "bus_error") {
			last = match[1]
		}
	}
	return last
}
