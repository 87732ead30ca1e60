package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"runtime/debug"

	"banger/internal/api"
)

// maxBody bounds a request's JSON.
const maxBody = 1 << 20

// pathValues returns the value of a {name} segment of the request's path.
type pathValues func(name string) string

// handle registers a call that is answered at once.
func handle[Req, Reply any](s *Server, route api.Route[Req, Reply], fn func(context.Context, pathValues, Req) (Reply, error)) {
	s.document(operation{
		method: route.Method, path: route.Path, doc: route.Doc,
		req: reflect.TypeFor[Req](), reply: reflect.TypeFor[Reply](),
	})
	s.mux.HandleFunc(route.Method+" "+route.Path, func(w http.ResponseWriter, r *http.Request) {
		var req Req
		var reply Reply
		err := decode(w, r, &req)
		if err == nil {
			err = s.safely(r, func() (err error) {
				reply, err = fn(r.Context(), r.PathValue, req)
				return err
			})
		}
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		s.writeJSON(w, r, http.StatusOK, reply)
	})
}

// handleRaw registers a call that writes its own answer. If fn returns an
// error it must not have written anything yet.
func (s *Server) handleRaw(method, path, doc string, fn func(http.ResponseWriter, *http.Request) error) {
	s.document(operation{method: method, path: path, doc: doc})
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		if err := s.safely(r, func() error { return fn(w, r) }); err != nil {
			s.writeError(w, r, err)
		}
	})
}

// safely runs fn and turns a panic into an error, so that a bug in one call
// costs that call and not the daemon.
func (s *Server) safely(r *http.Request, fn func() error) (err error) {
	defer func() {
		p := recover()
		if p == http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
			panic(p) // asks net/http to cut the answer off
		}
		if p != nil {
			s.log.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			err = api.Errorf(api.CodeInternal, "bangerd hit a bug in %s %s: %v", r.Method, r.URL.Path, p).
				WithHint("the stack trace is in bangerd's log; please report it")
		}
	}()
	return fn()
}

// decode reads the request's JSON body, if any, into req. It reads the body to
// its end: only then does net/http watch for the client going away.
func decode(w http.ResponseWriter, r *http.Request, req any) error {
	body := http.MaxBytesReader(w, r.Body, maxBody)
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	err := dec.Decode(req)
	if errors.Is(err, io.EOF) {
		return nil // no body: every request has useful zero values
	}
	if err == nil {
		if _, extra := dec.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("there is more than one JSON value")
		}
	}
	if err != nil {
		return api.Errorf(api.CodeInvalid, "read the request's body: %v", err)
	}
	return nil
}

// notNull makes a list that is [] in JSON where it is empty, not null.
func notNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// cancelled says why ctx ended: the client left, or the daemon ends. It keeps
// the VM that e names.
func cancelled(ctx context.Context, e *api.Error) *api.Error {
	reply := *api.Errorf(api.CodeCancelled, "the request was cancelled")
	var why *api.Error
	if errors.As(context.Cause(ctx), &why) {
		reply = *why
	}
	reply.VM = e.VM
	return &reply
}
