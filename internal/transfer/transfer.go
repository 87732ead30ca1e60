// Package transfer gets one file over a network that fails now and then: it goes
// on where an earlier attempt stopped, or an earlier process, tries again with
// pauses, keeps to limits of size and time, and compares the sum. Whom it asks,
// and what users are told, is its callers' business.
package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"os"
)

// ErrBadRange means that the server can't send what comes after the bytes that
// are there.
var ErrBadRange = errors.New("the server answered with another part of the file")

// Part is what a server answers: a file, from an offset on.
type Part struct {
	Body   io.ReadCloser
	Offset int64        // 0, or how many bytes there were
	Total  int64        // bytes of the whole file; 0 if the server doesn't tell
	Begin  func() error // nil, or what to do before the first byte of a file that begins anew
}

// Transfer is the fetching of one file. Fields without a remark are needed.
type Transfer struct {
	File      *os.File // may hold the start of the file from an earlier time
	Worthless bool     // what File holds is of no use
	// Get asks for what comes after the bytes that are there. It returns
	// ErrBadRange for an answer with something else than that or the whole file.
	Get       func(ctx context.Context, have int64) (Part, error)
	Temporary func(error) bool        // whether trying again may help
	Progress  func(done, total int64) // total is 0 while it isn't known
	Retry     Retry
	Log       *slog.Logger
	Name      slog.Attr // of the file, in the log

	SHA256  string                 // in hex; not compared if empty
	Wrong   func(got string) error // makes the error for another sum
	Size    int64                  // of the file; -1: the server tells
	Max     int64                  // a longer file is an error; 0: any length
	TooLong func() error           // makes that error

	have, total int64
	hash        hash.Hash // over what File holds; nil if nobody asks
}

// Run completes File and checks it. It flushes nothing. A wrong sum leaves File
// empty; after any other error it holds what came so far.
func (t *Transfer) Run(ctx context.Context) error {
	resumed, err := t.resume()
	if err != nil {
		return err
	}
	if resumed && t.SHA256 != "" && t.check() == nil {
		return nil // only the new name was missing
	}
	if err := t.fetchAll(ctx); err != nil {
		return err
	}
	err = t.check()
	if err != nil && resumed {
		// The start may be at fault, rather than what the server sends.
		t.Log.Info("download anew, since what was fetched earlier is of another file", t.Name)
		if err := t.restart(); err != nil {
			return err
		}
		if err := t.fetchAll(ctx); err != nil {
			return err
		}
		err = t.check()
	}
	if err != nil {
		if err := t.restart(); err != nil {
			return err
		}
	}
	return err
}

// Have returns how many bytes there are.
func (t *Transfer) Have() int64 { return t.have }

// resume takes over what File holds already. It reports whether that is
// anything.
func (t *Transfer) resume() (bool, error) {
	if t.Worthless {
		return false, t.restart()
	}
	to := io.Discard
	if t.SHA256 != "" {
		t.hash = sha256.New()
		to = t.hash
	}
	var err error
	if t.have, err = io.Copy(to, t.File); err != nil {
		return false, fmt.Errorf("read what was fetched earlier: %w", err)
	}
	if t.Size >= 0 && t.have > t.Size {
		return false, t.restart()
	}
	t.Progress(t.have, 0)
	return t.have > 0, nil
}

// restart forgets what File holds.
func (t *Transfer) restart() error {
	size, err := t.File.Seek(0, io.SeekEnd)
	if err == nil && size > 0 {
		err = errors.Join(t.File.Truncate(0), rewind(t.File))
	}
	if err != nil {
		return fmt.Errorf("empty the partial file: %w", err)
	}
	t.have, t.total, t.hash = 0, 0, nil
	if t.SHA256 != "" {
		t.hash = sha256.New()
	}
	return nil
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (t *Transfer) complete() bool { return t.Size >= 0 && t.have >= t.Size }

// fetchAll fetches until all is there. Attempts count anew whenever one got
// further than all before it.
func (t *Transfer) fetchAll(ctx context.Context) error {
	if t.complete() {
		return nil
	}
	best := t.have
	for failed := 0; ; {
		err := t.Retry.Attempt(ctx, t.fetch)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, ErrBadRange) {
			if err := t.restart(); err != nil {
				return err
			}
		} else if !t.Temporary(err) {
			return err
		}
		if t.have > best {
			best, failed = t.have, 0
		}
		failed++
		if failed >= t.Retry.Attempts {
			return err
		}
		t.Log.Info("try to download again", t.Name, "have", t.have, "of", max(t.total, t.Size), "err", err)
		if err := t.Retry.wait(ctx, failed, err); err != nil {
			return err
		}
	}
}

// fetch makes one request for what is missing and gets all of that; it calls
// alive whenever something came. Of an answer that is longer than Size the rest
// is left, as the sum tells that it is a wrong one.
func (t *Transfer) fetch(ctx context.Context, alive func()) error {
	part, err := t.Get(ctx, t.have)
	if err != nil {
		return err
	}
	defer part.Body.Close()
	if err := t.accept(part); err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	for !t.complete() {
		wanted := buf
		if t.Size >= 0 {
			wanted = buf[:min(int64(len(buf)), t.Size-t.have)]
		}
		n, err := part.Body.Read(wanted)
		if n > 0 {
			alive()
			if err := t.add(buf[:n]); err != nil {
				return err
			}
			alive() // a disk may be slow as well
		}
		if errors.Is(err, io.EOF) && t.have < max(t.total, t.Size) {
			return io.ErrUnexpectedEOF
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// accept judges an answer before its body is read.
func (t *Transfer) accept(part Part) error {
	switch part.Offset {
	case 0:
		if err := t.restart(); err != nil {
			return err
		}
		if part.Begin != nil {
			if err := part.Begin(); err != nil {
				return err
			}
		}
	case t.have:
	default:
		return ErrBadRange
	}
	t.total = part.Total
	if t.Max > 0 && t.total > t.Max {
		return t.TooLong()
	}
	return nil
}

// add appends p to what is there.
func (t *Transfer) add(p []byte) error {
	if t.Max > 0 && t.have+int64(len(p)) > t.Max {
		return t.TooLong()
	}
	if _, err := t.File.Write(p); err != nil {
		return fmt.Errorf("write the partial file: %w", err)
	}
	if t.hash != nil {
		t.hash.Write(p)
	}
	t.have += int64(len(p))
	t.Progress(t.have, t.total)
	return nil
}

// check compares the sum.
func (t *Transfer) check() error {
	if t.SHA256 == "" {
		return nil
	}
	if got := hex.EncodeToString(t.hash.Sum(nil)); got != t.SHA256 {
		return t.Wrong(got)
	}
	return nil
}

// Ask makes a request ask for what comes after the first bytes, as it is: parts
// and sums are not of a compressed form.
func Ask(r *http.Request, have int64) {
	r.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
}

// Read makes a Part of the answer to such a request. ok tells whether it is one;
// other answers are errors of the server's. Total is what the answer says.
func Read(res *http.Response, have int64) (_ Part, ok bool, _ error) {
	switch res.StatusCode {
	case http.StatusOK:
		return Part{Body: res.Body, Total: max(0, res.ContentLength)}, true, nil
	case http.StatusPartialContent:
		start, total, ok := contentRange(res.Header.Get("Content-Range"))
		if !ok || have == 0 || start != have {
			return Part{}, true, ErrBadRange
		}
		return Part{Body: res.Body, Offset: start, Total: total}, true, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return Part{}, true, ErrBadRange
	}
	return Part{}, false, nil
}

// contentRange parses a Content-Range (RFC 9110, section 14.4). total is 0 if
// the server doesn't tell it.
func contentRange(s string) (start, total int64, ok bool) {
	var end int64
	if n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &start, &end, &total); n == 3 && err == nil {
		return start, total, true
	}
	n, err := fmt.Sscanf(s, "bytes %d-%d/*", &start, &end)
	return start, 0, n == 2 && err == nil
}
