package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"banger/internal/api"
)

// followInterval is how often a followed log is looked at. The file is written
// by a VMM that has no way to tell.
const followInterval = 200 * time.Millisecond

// logs answers api.LogsPath.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	vm := r.PathValue("vm")
	path, err := s.vms.ConsoleLog(r.Context(), vm)
	if err != nil {
		return err
	}
	follow := r.URL.Query().Get("follow") == "1"
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "VM %q has no console log: it was never started", vm).
			WithHint("run: banger vm start %s", vm)
	}
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	tail := &tail{path: path, file: f}
	defer tail.close()
	// From here on the answer has begun; what fails is the client's leaving or
	// a disk, and cutting the answer off is all that can be said.
	if err := tail.copy(r.Context(), w, follow); err != nil {
		s.log.Debug("console log ended", "vm", vm, "err", err)
		if r.Context().Err() == nil {
			panic(http.ErrAbortHandler)
		}
	}
	return nil
}

// tail reads a file that grows and may be truncated or replaced meanwhile.
type tail struct {
	path   string
	file   *os.File
	offset int64
}

func (t *tail) close() { t.file.Close() }

// copy writes the file, and with follow whatever is added to it until ctx
// ends.
func (t *tail) copy(ctx context.Context, w http.ResponseWriter, follow bool) error {
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	for {
		n, err := io.Copy(w, t.file)
		if err != nil {
			return fmt.Errorf("copy log: %w", err)
		}
		t.offset += n
		if !follow {
			return nil
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := t.refresh(); err != nil {
			return err
		}
	}
}

// refresh begins again where the file was truncated, or opens the file that
// has taken its place. A file that is missing for now is waited for.
func (t *tail) refresh() error {
	now, err := os.Stat(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at log: %w", err)
	}
	mine, err := t.file.Stat()
	if err != nil {
		return fmt.Errorf("look at log: %w", err)
	}
	if !os.SameFile(now, mine) {
		f, err := os.Open(t.path)
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		t.file.Close()
		t.file, t.offset = f, 0
		return nil
	}
	if mine.Size() < t.offset {
		if _, err := t.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("rewind log: %w", err)
		}
		t.offset = 0
	}
	return nil
}
