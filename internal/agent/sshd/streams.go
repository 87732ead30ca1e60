package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what the kernel allows every user (fs.pipe-max-size): it
	// lets a command run on while its output is encrypted.
	pipeSize = 1 << 20
	// copySize is the room for what is read at once. A packet takes 32 KiB.
	copySize = 128 << 10
)

// streams joins a channel to the files of a command.
type streams struct {
	child    [3]*os.File // the command's ends: input, output, errors
	stdin    *os.File
	endInput func() error // makes the command see the end of its input
	outputs  []*output
	channel  ssh.Channel
	terminal *terminal // where the files are those of a terminal
}

// output is one way out of a command.
type output struct {
	from *os.File
	to   io.Writer
	left bool // somebody still has the other end open
}

// pipeStreams makes three pipes.
func pipeStreams(channel ssh.Channel) (*streams, error) {
	s := &streams{channel: channel}
	for i := range s.child {
		r, w, err := os.Pipe()
		if err != nil {
			s.closeChild()
			s.close()
			return nil, fmt.Errorf("make a pipe for the command: %w", err)
		}
		// A smaller pipe does, too.
		_ = control(r, func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
			return err
		})
		switch i {
		case 0:
			s.child[i], s.stdin, s.endInput = r, w, w.Close
		case 1:
			s.child[i] = w
			s.outputs = append(s.outputs, &output{from: r, to: channel})
		case 2:
			s.child[i] = w
			s.outputs = append(s.outputs, &output{from: r, to: channel.Stderr()})
		}
	}
	return s, nil
}

// terminalStreams uses a terminal for all three.
func terminalStreams(t *terminal, channel ssh.Channel) *streams {
	return &streams{
		child:    [3]*os.File{t.slave, t.slave, t.slave},
		stdin:    t.master,
		endInput: t.typeEOF,
		outputs:  []*output{{from: t.master, to: channel}},
		channel:  channel,
		terminal: t,
	}
}

// closeChild closes the command's ends in this process.
func (s *streams) closeChild() { closeFiles(s.child[:]...) }

// close closes this process's ends, which ends the copying.
func (s *streams) close() {
	closeFiles(s.stdin)
	for _, o := range s.outputs {
		if !o.left {
			closeFiles(o.from)
		}
	}
}

// copy starts the copying by spawn. The returned channel is closed when all
// output is with the client.
func (s *streams) copy(spawn func(func())) <-chan struct{} {
	done := make(chan struct{})
	var outputs sync.WaitGroup
	outputs.Add(len(s.outputs))
	for _, o := range s.outputs {
		spawn(func() {
			defer outputs.Done()
			o.copy()
		})
	}
	spawn(func() {
		outputs.Wait()
		close(done)
	})
	spawn(s.feed)
	return done
}

// feed passes the client's input on, and drops it once the command has closed
// its end, so that a client that goes on sending isn't stuck. The input of a client
// that is gone doesn't end here, but behind the hang-up: half of it is not to be
// taken for all.
func (s *streams) feed() {
	_, err := io.CopyBuffer(struct{ io.Writer }{s.stdin}, s.channel, make([]byte, copySize))
	switch {
	case err != nil:
		_, _ = io.Copy(io.Discard, s.channel)
	case s.clientAnswers():
		_ = s.endInput() // or the command has closed it
	}
}

// clientAnswers tells whether the client is there. The end of what it sends doesn't
// tell.
func (s *streams) clientAnswers() bool {
	_, err := s.channel.SendRequest("keepalive@openssh.com", true, nil)
	return err == nil
}

// finish sets the time up to which output is waited for.
func (s *streams) finish(deadline time.Time) {
	for _, o := range s.outputs {
		_ = o.from.SetReadDeadline(deadline) // files that are closed need none
	}
}

// copy copies until all who could write have closed their ends, until the
// deadline and then what is there already, for a command that has ended has
// nothing else to say, or until the client is gone.
func (o *output) copy() {
	_, err := io.CopyBuffer(o.to, struct{ io.Reader }{o.from}, make([]byte, copySize))
	if err == nil {
		return
	}
	o.left = true
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	if err := o.from.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	var waiting int
	err = control(o.from, func(fd int) (err error) {
		waiting, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	if err == nil {
		_, _ = io.CopyN(o.to, o.from, int64(waiting)) // or the client is gone
	}
}

// discardRest reads what is still written by processes that the command left
// behind, or by the command itself for a client that is gone, up to the end of
// ctx: were their pipe closed, they would be killed by their next line of output.
// Those of a terminal have lost it already.
func (s *streams) discardRest(ctx context.Context) {
	for _, o := range s.outputs {
		if s.terminal != nil {
			o.left = false
		}
		if !o.left {
			continue
		}
		_ = o.from.SetReadDeadline(time.Time{}) // files that are closed need none
		stop := context.AfterFunc(ctx, func() { closeFiles(o.from) })
		go func() {
			defer stop()
			defer closeFiles(o.from)
			_, _ = io.Copy(io.Discard, o.from)
		}()
	}
}

// control runs do on a file's descriptor, which stays in non-blocking mode.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	if err := raw.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return err
	}
	return doErr
}
