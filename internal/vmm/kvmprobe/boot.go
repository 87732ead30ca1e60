package kvmprobe

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"banger/internal/guard"
)

// boot runs a VMM until the mark appears, the VMM ends or the time is up. No
// process is left.
func (v VMM) boot(caller context.Context) (attempt, error) {
	ctx, cancel := context.WithTimeout(caller, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, v.Binary, v.Args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(v.Input)
	var log bytes.Buffer
	cmd.Stderr = &log
	console := &markWriter{mark: []byte(markBooted), found: cancel}
	cmd.Stdout = guard.Writer("read a probe's console", console) // on a goroutine of package exec
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return attempt{}, err
	}
	seen := attempt{console: console.String(), log: log.String()}
	switch {
	case strings.Contains(seen.console, markBooted):
	case caller.Err() != nil:
		return attempt{}, caller.Err()
	case ctx.Err() != nil:
		seen.timedOut = true
	default:
		seen.exit = cmd.ProcessState.String()
	}
	return seen, nil
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
