package download

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
	"net/url"
	"os"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/weburl"
)

// transfer is the fetching of one file.
type transfer struct {
	Options
	url    *url.URL
	client *http.Client
	retry  Retry

	f      *os.File
	have   int64
	total  int64     // 0: not known
	hash   hash.Hash // over what f holds; nil if nobody asks
	origin origin    // of what f holds
}

func newTransfer(u *url.URL, o Options) *transfer {
	t := &transfer{Options: o, url: u, retry: DefaultRetry}
	if o.Retry != nil {
		t.retry = *o.Retry
	}
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	t.client = weburl.Client(o.Client)
	return t
}

// address is the URL for messages.
func (t *transfer) address() string { return weburl.Redact(t.url.String()) }

func (t *transfer) progress(done, total int64) {
	if t.Progress != nil {
		t.Progress(done, total)
	}
}

// download fills f, which may hold the start of the file from an earlier time,
// and checks the result.
func (t *transfer) download(ctx context.Context, f *os.File) error {
	t.f = f
	resumed, err := t.resume()
	if err != nil {
		return err
	}
	if resumed && t.SHA256 != "" && t.check() == nil {
		return nil // only the new name was missing
	}
	if err := t.run(ctx); err != nil {
		return t.explain(ctx, err)
	}
	if err := t.check(); err == nil || !resumed {
		return err
	}
	// The start may be at fault, rather than what the server sends.
	t.Log.Info("download anew, since what was fetched earlier is of another file", "url", t.address())
	if err := t.restart(); err != nil {
		return err
	}
	if err := t.run(ctx); err != nil {
		return t.explain(ctx, err)
	}
	return t.check()
}

// resume takes over what f holds already. It reports whether that is anything.
func (t *transfer) resume() (bool, error) {
	var err error
	if t.origin, err = readOrigin(t.f); err != nil {
		return false, err
	}
	if t.origin.URL != t.url.String() {
		t.origin = origin{}
	}
	if t.SHA256 == "" && t.origin.Validator == "" {
		return false, t.restart()
	}
	to := io.Discard
	if t.SHA256 != "" {
		t.hash = sha256.New()
		to = t.hash
	}
	if t.have, err = io.Copy(to, t.f); err != nil {
		return false, fmt.Errorf("read what was fetched earlier: %w", err)
	}
	t.progress(t.have, 0)
	return t.have > 0, nil
}

// restart forgets what f holds.
func (t *transfer) restart() error {
	size, err := t.f.Seek(0, io.SeekEnd)
	if err == nil && size > 0 {
		err = errors.Join(t.f.Truncate(0), rewind(t.f))
	}
	if err != nil {
		return fmt.Errorf("empty the partial file: %w", err)
	}
	t.have, t.total, t.hash, t.origin = 0, 0, nil, origin{}
	if t.SHA256 != "" {
		t.hash = sha256.New()
	}
	return nil
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// run fetches until all is there. Attempts count anew whenever one got
// further than all before it.
func (t *transfer) run(ctx context.Context) error {
	best := t.have
	for failed := 0; ; {
		err := t.attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errBadRange) {
			if err := t.restart(); err != nil {
				return err
			}
		} else if !temporary(err) {
			return err
		}
		if t.have > best {
			best, failed = t.have, 0
		}
		failed++
		if failed >= t.retry.Attempts {
			return err
		}
		t.Log.Info("try to download again", "url", t.address(), "have", t.have, "of", t.total, "err", err)
		if err := t.retry.wait(ctx, failed, err); err != nil {
			return err
		}
	}
}

// attempt makes one request for what is missing and gets all of that.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(t.retry.Stall, guard.Func("notice a download that stands still", func() { cancel(errStalled) }))
	defer stalled.Stop()
	err := t.fetch(ctx, func() { stalled.Reset(t.retry.Stall) })
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// fetch is attempt; it calls alive whenever something came.
func (t *transfer) fetch(ctx context.Context, alive func()) error {
	body, err := t.request(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if err := t.add(buf[:n]); err != nil {
				return err
			}
			alive() // a disk may be slow as well
		}
		if errors.Is(err, io.EOF) && t.have < t.total {
			return io.ErrUnexpectedEOF
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// add appends p to what is there.
func (t *transfer) add(p []byte) error {
	if t.MaxBytes > 0 && t.have+int64(len(p)) > t.MaxBytes {
		return t.tooLong()
	}
	if _, err := t.f.Write(p); err != nil {
		return fmt.Errorf("write the partial file: %w", err)
	}
	if t.hash != nil {
		t.hash.Write(p)
	}
	t.have += int64(len(p))
	t.progress(t.have, t.total)
	return nil
}

func (t *transfer) tooLong() error {
	return &uselessError{api.Errorf(api.CodeInvalid, "%s is longer than the %d MiB that are allowed for it", t.address(), t.MaxBytes>>20)}
}

// check compares the sum.
func (t *transfer) check() error {
	if t.SHA256 == "" {
		return nil
	}
	got := hex.EncodeToString(t.hash.Sum(nil))
	if got == t.SHA256 {
		return nil
	}
	return &uselessError{api.Errorf(api.CodeInvalid, "%s is not the file that is expected: its sha256 is %s instead of %s",
		t.address(), got, t.SHA256).WithHint("it was changed at its source or damaged on its way; nothing of it was used")}
}

// explain makes an error of fetching one for the user.
func (t *transfer) explain(ctx context.Context, err error) error {
	var known *api.Error
	var disk *os.PathError
	if ctx.Err() != nil || errors.As(err, &known) || errors.As(err, &disk) {
		return err
	}
	var status *statusError
	if errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusGone) {
		return api.Errorf(api.CodeNotFound, "there is nothing at %s: %v", t.address(), status)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the address once more
	}
	failed := api.Errorf(api.CodeHost, "download %s: %v", t.address(), err)
	if status != nil && !temporary(status) {
		return failed
	}
	hint := []string{"check the network and the address"}
	if t.have > 0 {
		hint = append(hint, "the next attempt goes on where this one stopped")
	}
	return failed.WithHint("%s", strings.Join(hint, "; "))
}
