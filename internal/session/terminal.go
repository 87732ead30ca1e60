package session

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"banger/internal/guard"
)

// The size of a terminal whose own size can't be found out.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// openTerminal asks the guest for a terminal like the local one and puts that
// into raw mode, if Stdin is one. restore undoes the latter; it may be called
// more than once.
func (r *run) openTerminal() (restore func(), err error) {
	nothing := func() {}
	columns, rows := r.size()
	modes := ssh.TerminalModes{
		ssh.ECHO:          1,
		ssh.IUTF8:         1,
		ssh.TTY_OP_ISPEED: 38400,
		ssh.TTY_OP_OSPEED: 38400,
	}
	if err := r.session.RequestPty(r.terminalType(), rows, columns, modes); err != nil {
		return nothing, r.fault("open a terminal", err)
	}
	in, ok := terminal(r.options.Stdin)
	if !ok {
		return nothing, nil
	}
	state, err := term.MakeRaw(in)
	if err != nil {
		return nothing, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	var once sync.Once
	return func() {
		once.Do(func() { _ = term.Restore(in, state) })
	}, nil
}

// followSize tells the guest about every change of the terminal's size until
// the returned function is called.
func (r *run) followSize() (stop func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	done := make(chan struct{})
	guard.Go("follow the terminal's size", func() {
		for {
			select {
			case <-done:
				return
			case <-changes:
				columns, rows := r.size()
				_ = r.session.WindowChange(rows, columns)
			}
		}
	})
	return func() {
		signal.Stop(changes)
		close(done)
	}
}

// size is that of the first of the streams that is a terminal, in characters.
func (r *run) size() (columns, rows int) {
	for _, stream := range []any{r.options.Stdin, r.options.Stdout, r.options.Stderr} {
		fd, ok := terminal(stream)
		if !ok {
			continue
		}
		if columns, rows, err := term.GetSize(fd); err == nil && columns > 0 && rows > 0 {
			return columns, rows
		}
	}
	return defaultColumns, defaultRows
}

func (r *run) terminalType() string {
	if t := r.options.Env["TERM"]; t != "" {
		return t
	}
	if t := os.Getenv("TERM"); t != "" {
		return t
	}
	return "xterm"
}

// terminal returns the descriptor of a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile || f == nil {
		return 0, false
	}
	fd = int(f.Fd())
	return fd, term.IsTerminal(fd)
}
