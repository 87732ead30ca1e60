// Package download fetches files over HTTP: it goes on where an earlier
// attempt stopped, survives dropped connections, and lets a file appear only
// when it is complete and what it should be.
package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/naming"
	"banger/internal/room"
	"banger/internal/transfer"
	"banger/internal/weburl"
)

// Options says how to download. The zero value is fine.
type Options struct {
	SHA256   string                  // in hex; checked if not empty
	MaxBytes int64                   // a longer file is an error; 0: any length
	Progress func(done, total int64) // in bytes; total is 0 while it isn't known; must be quick; calls don't overlap
	Client   *http.Client            // nil: one that takes proxies from the environment
	Log      *slog.Logger            // nil: none
	Retry    *Retry                  // nil: transfer.DefaultRetry

	Free func(dir string) (int64, error) // for tests; nil: room.Free
}

// File downloads rawURL, which is of http or https, to path and replaces what
// is there, unless that has the SHA256 already. What is fetched before an
// error stays beside path, with suffix ".partial", for the next call to go on
// with, as far as the server or the SHA256 can tell that it is of the same
// file. While another call, in whatever process, downloads to the same path,
// File waits for it and takes its result.
//
// A file that can't be had, that is longer than MaxBytes, or that isn't what
// SHA256 says, is an *api.Error, and so is a disk that is full but for what
// room.Limit leaves; of the latter three nothing stays.
func File(ctx context.Context, rawURL, path string, o Options) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	o.SHA256 = strings.ToLower(o.SHA256)
	if o.SHA256 != "" && !naming.IsSHA256(o.SHA256) {
		return api.Errorf(api.CodeInvalid, "%q is not a sha256 in hex", o.SHA256).
			WithHint("it has 64 digits; sha256sum prints it")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the directory for a download: %w", err)
	}
	s := newSource(u, o)
	before, err := stat(path)
	if err != nil {
		return err
	}
	return transfer.Await(ctx, path, func(done int64) { s.progress(done, 0) }, func() (bool, error) {
		f, err := transfer.Lock(path + transfer.PartialSuffix)
		if err != nil {
			return false, room.Explain(err, filepath.Dir(path))
		}
		if f == nil {
			return false, nil
		}
		return true, s.into(ctx, f, path, before)
	})
}

// into downloads into the locked partial file f and gives it its name. Closing
// it ends the lock. before is what was at path when the wait for the lock
// began, nil if nothing was.
func (s *source) into(ctx context.Context, f *os.File, path string, before fs.FileInfo) error {
	defer f.Close()
	there, err := s.satisfied(path, before)
	if err != nil || there {
		return errors.Join(err, dropIfEmpty(f))
	}
	limit := room.Limit{
		Dir: filepath.Dir(path), Free: s.Free,
		Hint: "make room there and try again; nothing was left behind",
	}
	ctx, stop := limit.Watch(ctx)
	defer stop()
	err = s.download(ctx, f)
	if err == nil {
		err = finish(f, path)
	}
	if err == nil {
		return nil
	}
	full := room.Explain(err, filepath.Dir(path))
	var useless *uselessError
	// On this disk, or on another one that the caller watches.
	var noRoom *room.FullError
	if full != err || errors.As(err, &useless) || errors.As(err, &noRoom) { //nolint:errorlint // whether Explain took it for its own
		if rmErr := dropPartial(f); rmErr != nil {
			return errors.Join(full, rmErr)
		}
		return full
	}
	return errors.Join(err, dropIfEmpty(f))
}

// satisfied reports whether the file at path is one that another call has put
// there meanwhile, or one with the right sum.
func (s *source) satisfied(path string, before fs.FileInfo) (bool, error) {
	now, err := stat(path)
	if err != nil || now == nil {
		return false, err
	}
	if s.SHA256 == "" {
		return before == nil || !os.SameFile(before, now), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("check a file that was downloaded earlier: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return false, fmt.Errorf("check a file that was downloaded earlier: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)) == s.SHA256, nil
}

// uselessError means that what was fetched isn't worth keeping.
type uselessError struct{ err *api.Error }

func (e *uselessError) Error() string { return e.err.Error() }
func (e *uselessError) Unwrap() error { return e.err }

func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, api.Errorf(api.CodeInvalid, "%q is not a URL of http or https", weburl.Redact(rawURL))
	}
	return u, nil
}

// stat returns nil if there is nothing at path.
func stat(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for an earlier download: %w", err)
	}
	return info, nil
}
