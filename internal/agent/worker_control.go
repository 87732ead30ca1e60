package agent

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"banger/internal/agent/cgroup"
	"banger/internal/guest"
)

// worker answers control calls once the root filesystem is there.
type worker struct {
	log       *slog.Logger
	version   string
	systemd   bool
	init      string
	groups    *cgroup.Tree // nil if there are none
	readiness *readiness
	// openRoot opens the root filesystem for an archive of it.
	openRoot func() (*liveRoot, error)
}

func (w *worker) serve(conn net.Conn) {
	serveControl(conn, handlers{
		guest.CallHealth: w.health,
		guest.CallBoot: func(*call) (any, error) {
			return nil, errors.New("this guest has already booted")
		},
		guest.CallReady:    w.ready,
		guest.CallExtract:  w.extract,
		guest.CallArchive:  w.archive,
		guest.CallShutdown: w.shutdown,
		guest.CallClock:    w.clock,
	}, w.log)
}

func (w *worker) health(*call) (any, error) {
	stage := guest.StageBooting
	select {
	case <-w.readiness.done:
		stage = guest.StageReady
	default:
	}
	return guest.Health{Version: w.version, Stage: stage, Uptime: uptime()}, nil
}

func (w *worker) ready(c *call) (any, error) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		drain(c.lines) // ends when the host gives up
	}()
	select {
	case <-w.readiness.done:
		return w.readiness.state, w.readiness.err
	case <-gone:
		return nil, errors.New("the host stopped waiting")
	}
}

// extract unpacks a tar stream that follows the request.
func (w *worker) extract(c *call) (any, error) {
	var p guest.ExtractParams
	if err := c.params(&p); err != nil {
		return nil, err
	}
	x, err := newExtraction(p.Path)
	if err != nil {
		return nil, err
	}
	defer x.close()
	if err := c.respond(nil, nil); err != nil {
		return nil, fmt.Errorf("tell the host to go ahead: %w", err)
	}
	if err := x.run(c.lines); err != nil || !p.ReadOnly {
		return nil, err
	}
	return nil, mountReadOnly(x.top)
}

// archive sends the root filesystem as a tar stream. What goes wrong on the way
// is said by the response that follows the stream.
func (w *worker) archive(c *call) (any, error) {
	root, err := w.openRoot()
	if err != nil {
		return nil, err
	}
	defer root.close()
	if err := c.respond(nil, nil); err != nil {
		return nil, fmt.Errorf("tell the host to go ahead: %w", err)
	}
	chunks := guest.NewChunkWriter(c.conn)
	out := bufio.NewWriterSize(chunks, archiveChunk)
	err = root.archive(out)
	if err == nil {
		err = out.Flush()
	}
	return nil, errors.Join(err, chunks.Close())
}

func (w *worker) shutdown(c *call) (any, error) {
	var p guest.ShutdownParams
	if err := c.params(&p); err != nil {
		return nil, err
	}
	c.after = func() {
		// Else systemd would wait for them at its very end, for as long as for a
		// service.
		if w.groups != nil {
			go w.groups.End(commandGrace)
		}
		shutDown(w.systemd, w.init, p.Reset, w.log)
	}
	return nil, nil
}
