package sshd

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// drainGrace is how long the end of a command is held back for processes that
// it left behind with its output open.
const drainGrace = 2 * time.Second

// running is a command and the copying between it and its channel.
type running struct {
	conn    *connection
	channel ssh.Channel
	streams *streams
	process *process // nil if it could not be started
	failure error    // why not
	note    string   // a line before its output; "" for none

	releaseOnce sync.Once
	released    chan struct{} // closed when output may be sent
	goneOnce    sync.Once
	gone        chan struct{} // closed when the client is gone
}

// startRunning starts a command unless it is known already why it can't be
// started. The client is told of that by serve, as a shell would tell it.
func startRunning(conn *connection, channel ssh.Channel, spec processSpec, failure error) *running {
	r := &running{conn: conn, channel: channel, released: make(chan struct{}), gone: make(chan struct{})}
	if r.failure = failure; failure == nil {
		r.failure = r.start(spec)
	}
	return r
}

func (r *running) start(spec processSpec) (err error) {
	if spec.terminal != nil {
		r.streams = terminalStreams(spec.terminal, r.channel)
	} else if r.streams, err = pipeStreams(r.channel); err != nil {
		return err
	}
	child := r.streams.child
	r.process, err = startProcess(spec, child[0], child[1], child[2])
	// The copies in the command are the only ones from now on, so that their
	// end can be seen.
	r.streams.closeChild()
	return err
}

// release lets output flow.
func (r *running) release() { r.releaseOnce.Do(func() { close(r.released) }) }

// hangUp is called when the client is gone: it ends what still runs as the
// loss of a terminal does. A command that ignores that goes on.
func (r *running) hangUp() {
	r.goneOnce.Do(func() { close(r.gone) })
	r.release()
}

// signal sends a signal of the client's.
func (r *running) signal(sig syscall.Signal) {
	if r.process != nil {
		r.process.signal(sig)
	}
}

// serve copies the streams until the command has ended, reports that, and
// closes the channel. It returns early when the client is gone, after which a
// command may go on and write: a shell does, before it runs its trap, to say that
// the program before it was hung up as well.
func (r *running) serve(ctx context.Context) {
	<-r.released
	defer r.channel.Close()
	if r.streams != nil {
		defer r.streams.close()
	}
	if r.process == nil {
		_, _ = fmt.Fprintf(r.channel.Stderr(), "banger: %v\n", r.failure)
		r.report(startFailure(r.failure))
		return
	}
	if r.note != "" { // it comes with a terminal, which is in raw mode there
		_, _ = fmt.Fprintf(r.channel.Stderr(), "%s\r\n", r.note)
	}
	outputs := r.streams.copy(r.conn.work.Go)
	// Not among the connection's work: a command that ignores the hang-up has
	// to be reaped all the same.
	ended := make(chan syscall.WaitStatus, 1)
	go func() { ended <- r.process.wait() }()

	select {
	case status := <-ended:
		r.streams.finish(time.Now().Add(r.conn.server.config.drainGrace))
		select {
		case <-outputs:
			r.streams.discardRest(r.conn.service)
			r.report(status)
			return
		case <-r.gone:
		}
	case <-r.gone:
		r.process.signal(syscall.SIGHUP, syscall.SIGCONT)
	case <-ctx.Done():
		r.process.signal(syscall.SIGHUP, syscall.SIGCONT)
	}
	r.streams.finish(time.Now())
	<-outputs // at once, for nothing can be sent any more
	r.streams.discardRest(r.conn.service)
}

// report tells the client how the command ended, and that there is no more
// output. Where the client is gone, nobody wants to know.
func (r *running) report(status syscall.WaitStatus) {
	request, payload := exitMessage(status)
	_, _ = r.channel.SendRequest(request, false, payload)
	_ = r.channel.CloseWrite()
}

// closeFiles closes files whose last users may have closed them already.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
