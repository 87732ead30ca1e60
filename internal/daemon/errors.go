package daemon

import (
	"encoding/json"
	"errors"
	"net/http"

	"banger/internal/api"
)

// statusClientGone is what nginx logs for a client that left; nobody reads it.
const statusClientGone = 499

// status is the HTTP status that goes with an error's code. Programs should
// look at the code; the status is for tools such as curl.
func status(code api.Code) int {
	switch code {
	case api.CodeInvalid:
		return http.StatusBadRequest
	case api.CodeNotFound:
		return http.StatusNotFound
	case api.CodeExists, api.CodeConflict:
		return http.StatusConflict
	case api.CodeHost, api.CodeDaemon:
		return http.StatusServiceUnavailable
	case api.CodeTimeout:
		return http.StatusGatewayTimeout
	case api.CodeGuest:
		return http.StatusBadGateway
	case api.CodeVersion:
		return http.StatusPreconditionFailed
	case api.CodeCancelled:
		return statusClientGone
	default:
		return http.StatusInternalServerError
	}
}

// describe turns what a service returned for r into what the client is told,
// and logs what its user can't do anything about.
func (s *Server) describe(r *http.Request, err error) *api.Error {
	ctx := r.Context()
	e := api.AsError(err)
	// A cancelled service reports whatever its cancelled step said; why it was
	// cancelled is known better here.
	if ctx.Err() != nil && (e.Code == api.CodeInternal || e.Code == api.CodeCancelled) {
		e = cancelled(ctx, e)
	}
	if e.Code == api.CodeInternal {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	} else {
		s.log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "code", e.Code, "err", err)
	}
	return e
}

// writeError answers r with an error.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := s.describe(r, err)
	s.writeJSON(w, r, status(e.Code), e)
}

func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		s.log.Error("encode reply", "path", r.URL.Path, "err", err)
		http.Error(w, "encode reply: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil && !errors.Is(err, r.Context().Err()) {
		s.log.Debug("client left before the reply", "path", r.URL.Path, "err", err)
	}
}
