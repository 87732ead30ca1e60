// Package procid tells processes apart for all time. A pid alone is used again;
// pid and start time together are not, until the host's next boot.
package procid

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrGone says that no process has the pid, or only a zombie.
var ErrGone = errors.New("the process has ended")

// Stat is what identifies a process, from /proc/PID/stat, proc(5).
type Stat struct {
	State     byte   // field 3
	Terminal  bool   // field 7: whether it has a controlling terminal
	StartTime uint64 // field 22, in clock ticks since the host's boot
}

// Ended tells whether the process only waits to be reaped.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// StartTime returns when a process started, in clock ticks since the host's
// boot. It returns ErrGone for one that doesn't exist or has ended.
func StartTime(pid int) (uint64, error) {
	stat, err := Read(pid)
	if err == nil && stat.Ended() {
		err = ErrGone
	}
	return stat.StartTime, err
}

// Read looks at the process that has the pid now, a zombie too. It returns
// ErrGone when there is none.
func Read(pid int) (Stat, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Stat{}, ErrGone
	}
	var stat Stat
	if err == nil {
		stat, err = parse(content)
	}
	if err != nil {
		return Stat{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return stat, nil
}

// parse finds the fields. Field 2 is the command's name in parentheses, which
// may hold spaces and parentheses itself, so fields are counted from the last
// one that closes.
func parse(content []byte) (Stat, error) {
	_, rest, found := bytes.Cut(content, []byte("("))
	end := bytes.LastIndexByte(rest, ')')
	if !found || end < 0 {
		return Stat{}, fmt.Errorf("parse process status %q: no command name", content)
	}
	fields := bytes.Fields(rest[end+1:]) // from field 3 on
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Stat{}, fmt.Errorf("parse process status %q: too few fields", content)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("parse process status: %w", err)
	}
	return Stat{State: fields[0][0], Terminal: string(fields[4]) != "0", StartTime: start}, nil
}
