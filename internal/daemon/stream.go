package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"

	"banger/internal/api"
	"banger/internal/guard"
)

// stream registers a call whose answer is progress and then a result. An
// error before the first progress is answered like that of a plain call, with
// a status; later ones are the last event.
func stream[Req, Reply any](s *Server, route api.Stream[Req, Reply], fn func(context.Context, pathValues, Req, api.ProgressFunc) (Reply, error)) {
	s.document(operation{
		method: route.Method, path: route.Path, doc: route.Doc,
		req: reflect.TypeFor[Req](), reply: reflect.TypeFor[Reply](), stream: true,
	})
	s.mux.HandleFunc(route.Method+" "+route.Path, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(w, r, &req); err != nil {
			s.writeError(w, r, err)
			return
		}
		events := newEventWriter(w)
		var reply Reply
		err := s.safely(r, func() (err error) {
			reply, err = fn(r.Context(), r.PathValue, req, events.progress)
			return err
		})
		begun := events.close()
		if err != nil && !begun {
			s.writeError(w, r, err)
			return
		}
		if err != nil {
			events.write(api.Event{Type: api.EventError, Error: s.describe(r, err)})
			return
		}
		events.write(s.resultEvent(r, reply))
	})
}

func (s *Server) resultEvent(r *http.Request, reply any) api.Event {
	data, err := json.Marshal(reply)
	if err != nil {
		return api.Event{Type: api.EventError, Error: s.describe(r, err)}
	}
	return api.Event{Type: api.EventResult, Result: data}
}

// eventWriter sends events to the client, each at once. Progress never blocks
// the work: a goroutine writes it, and while the client is slow (it may have
// been suspended) only the newest progress of each phase waits.
type eventWriter struct {
	w     http.ResponseWriter
	flush *http.ResponseController
	wake  chan struct{} // something is pending, or closed is set
	done  chan struct{} // the goroutine has ended

	mu      sync.Mutex
	pending []api.Progress
	closed  bool
	begun   bool // the first event was written, or is being written
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	e := &eventWriter{
		w:     w,
		flush: http.NewResponseController(w),
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	guard.Go("write the events of a call", e.run)
	return e
}

// progress is an api.ProgressFunc.
func (e *eventWriter) progress(p api.Progress) {
	e.mu.Lock()
	if !e.closed {
		e.add(p)
	}
	e.mu.Unlock()
	e.signal()
}

// add replaces the newest waiting progress of the same phase, unless one of
// the two ends the phase: every phase's start and end, and every notice, get
// through. The caller holds mu.
func (e *eventWriter) add(p api.Progress) {
	for i := len(e.pending) - 1; i >= 0 && !p.Finished && p.Notice == ""; i-- {
		if e.pending[i].Phase != p.Phase || e.pending[i].Notice != "" {
			continue
		}
		if e.pending[i].Finished {
			break
		}
		e.pending[i] = p
		return
	}
	e.pending = append(e.pending, p)
}

func (e *eventWriter) signal() {
	select {
	case e.wake <- struct{}{}:
	default: // it is awake already
	}
}

// run writes what is pending until close.
func (e *eventWriter) run() {
	defer close(e.done)
	for range e.wake {
		for {
			p, ok, closed := e.next()
			if ok {
				e.write(api.Event{Type: api.EventProgress, Progress: &p})
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

func (e *eventWriter) next() (p api.Progress, ok, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pending) == 0 {
		return p, false, e.closed
	}
	p, e.pending = e.pending[0], e.pending[1:]
	e.begun = true
	return p, true, e.closed
}

// close waits until all progress was written; later progress is dropped. It
// reports whether anything was written.
func (e *eventWriter) close() bool {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.signal()
	<-e.done
	return e.begun
}

// write sends one event. Errors are not reported: they mean that the client
// has left, which cancels the request's context anyway.
func (e *eventWriter) write(ev api.Event) {
	e.w.Header().Set("Content-Type", "application/x-ndjson")
	data, err := json.Marshal(ev)
	if err != nil {
		return // only strings, numbers and JSON that was marshalled before
	}
	if _, err := e.w.Write(append(data, '\n')); err == nil {
		_ = e.flush.Flush()
	}
}
