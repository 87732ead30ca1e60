package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"banger/internal/api"
	"banger/internal/guard"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// errStalled means that a transfer stood still.
var errStalled = errors.New("the registry stopped sending")

// download fills f, which may hold the start of the blob from an earlier time,
// and checks the result. It flushes nothing. A wrong digest leaves f empty;
// after any other error f holds what came so far.
func (r *registry) download(ctx context.Context, desc v1.Descriptor, f *os.File, progress func(int64)) error {
	t := &transfer{registry: r, desc: desc, f: f, progress: progress}
	resumed, err := t.resume()
	if err != nil {
		return err
	}
	if err := t.run(ctx); err != nil {
		return err
	}
	err = t.check()
	if err != nil && resumed {
		// The start may be at fault, rather than what the registry sends.
		if err := t.restart(); err != nil {
			return err
		}
		if err := t.run(ctx); err != nil {
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

// transfer is the fetching of one blob.
type transfer struct {
	*registry
	desc     v1.Descriptor
	f        *os.File
	have     int64
	hash     hash.Hash // sha256 over what f holds
	progress func(int64)
}

// resume takes over what f holds already. It reports whether that is anything.
func (t *transfer) resume() (bool, error) {
	t.hash = sha256.New()
	n, err := io.Copy(t.hash, io.LimitReader(t.f, t.desc.Size+1))
	if err != nil {
		return false, fmt.Errorf("read what was fetched earlier: %w", err)
	}
	if n > t.desc.Size {
		return false, t.restart()
	}
	t.have = n
	t.progress(n)
	return n > 0, nil
}

// restart forgets what f holds.
func (t *transfer) restart() error {
	if err := t.f.Truncate(0); err != nil {
		return fmt.Errorf("empty the partial file: %w", err)
	}
	if _, err := t.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind the partial file: %w", err)
	}
	t.have, t.hash = 0, sha256.New()
	return nil
}

// run fetches until all is there. Attempts count anew whenever bytes came.
func (t *transfer) run(ctx context.Context) error {
	for failed := 0; t.have < t.desc.Size; {
		before := t.have
		err := t.attempt(ctx)
		if err == nil {
			continue
		}
		if t.have > before {
			failed = 0
		}
		failed++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errBadRange) && before > 0 {
			if err := t.restart(); err != nil {
				return err
			}
		} else if !temporary(err) {
			return err
		}
		if failed >= t.retry.attempts {
			return err
		}
		t.log.Info("try to fetch a blob again", "digest", t.desc.Digest.String(), "have", t.have, "of", t.desc.Size, "err", err)
		if err := t.retry.wait(ctx, failed); err != nil {
			return err
		}
	}
	return nil
}

// attempt makes one request for what is missing.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, offset, err := t.getBlob(ctx, t.desc.Digest, t.have)
	if err != nil {
		return err
	}
	defer body.Close()
	if offset != t.have {
		if err := t.restart(); err != nil {
			return err
		}
	}
	stalled := time.AfterFunc(t.retry.stall, guard.Func("notice a download that stands still", func() { cancel(errStalled) }))
	defer stalled.Stop()
	err = t.copy(body, func() { stalled.Reset(t.retry.stall) })
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// copy appends body to what is there, but not more than is missing: a longer
// answer is a wrong one, which the digest tells.
func (t *transfer) copy(body io.Reader, alive func()) error {
	buf := make([]byte, 128<<10)
	for t.have < t.desc.Size {
		n, err := body.Read(buf[:min(int64(len(buf)), t.desc.Size-t.have)])
		if n > 0 {
			alive()
			if _, err := t.f.Write(buf[:n]); err != nil {
				return fmt.Errorf("write the partial file: %w", err)
			}
			t.hash.Write(buf[:n])
			t.have += int64(n)
			t.progress(t.have)
		}
		if errors.Is(err, io.EOF) && t.have < t.desc.Size {
			return io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// check compares the digest.
func (t *transfer) check() error {
	got := hex.EncodeToString(t.hash.Sum(nil))
	if got == t.desc.Digest.Hex {
		return nil
	}
	return api.Errorf(api.CodeInvalid, "the registry sent something else than was asked for: its digest is sha256:%s instead of %s",
		got, t.desc.Digest).WithHint("try again; if that doesn't help, the registry or something on the way to it is broken")
}
