package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/weburl"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// headerTimeout bounds the wait for the start of an answer.
const headerTimeout = time.Minute

// newTransport returns a transport of its own, whose idle connections end with
// the pull.
func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // a test replaced it
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = headerTimeout
	t.IdleConnTimeout = 10 * time.Second
	return t
}

// registry is a repository of a registry that we are logged in to.
type registry struct {
	repo      name.Repository
	transport http.RoundTripper // adds credentials, for the registry's own host only
	retry     retryPolicy
	log       *slog.Logger
}

// connect finds out what the registry wants of us and logs in. Registries on
// this host and in private networks may speak plain HTTP.
func (p *puller) connect(ctx context.Context) (*registry, error) {
	repo := p.ref.Context()
	auth, err := authn.Resolve(ctx, p.opts.Keychain, repo)
	if err != nil {
		return nil, fmt.Errorf("look up the login for %s: %w", repo.RegistryStr(), err)
	}
	rt, err := retry(ctx, p.retry, p.log, func() (http.RoundTripper, error) {
		rt, err := transport.NewWithContext(ctx, repo.Registry, auth, p.opts.Transport, []string{repo.Scope(transport.PullScope)})
		return rt, weburl.Error(err)
	})
	if err != nil {
		return nil, err
	}
	return &registry{repo: repo, transport: rt, retry: p.retry, log: p.log}, nil
}

// getBlob asks for a blob from an offset on. If the answer's offset is 0, the
// registry doesn't know how to send parts.
func (r *registry) getBlob(ctx context.Context, digest v1.Hash, offset int64) (io.ReadCloser, int64, error) {
	u := url.URL{
		Scheme: r.repo.Scheme(),
		Host:   r.repo.RegistryStr(),
		Path:   fmt.Sprintf("/v2/%s/blobs/%s", r.repo.RepositoryStr(), digest),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("make the request: %w", err)
	}
	// Blobs are compressed already, and digests are of what is stored.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := (&http.Client{Transport: r.transport}).Do(req)
	if err != nil {
		return nil, 0, weburl.Error(err) // object stores' URLs are signed
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && startsAt(resp, offset):
		return resp.Body, offset, nil
	case resp.StatusCode == http.StatusPartialContent, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		return nil, 0, errBadRange
	}
	defer resp.Body.Close()
	return nil, 0, transport.CheckError(resp, http.StatusOK)
}

// errBadRange means that the registry didn't send the part that was asked for.
var errBadRange = errors.New("the registry sent another part of the blob than was asked for")

// startsAt reads "Content-Range: bytes 100-199/200", RFC 9110 section 14.4.
func startsAt(resp *http.Response, offset int64) bool {
	value, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	first, _, _ := strings.Cut(value, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return ok && err == nil && n == offset
}

// explain turns what went wrong into words for the user.
func (p *puller) explain(err error) error {
	var known *api.Error
	var te *transport.Error
	var downgrade *weburl.DowngradeError
	host := p.ref.Context().RegistryStr()
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return api.Errorf(api.CodeHost, "the disk that holds %s is full", p.opts.CacheDir).
			WithHint("make room there and pull again; what was fetched so far is kept")
	case errors.As(err, &downgrade):
		return api.Errorf(api.CodeHost, "the registry %s can't be used: %v", host, downgrade)
	case errors.As(err, &te):
		return p.explainStatus(te, host)
	case isNetwork(err):
		return api.Errorf(api.CodeHost, "the registry %s can't be reached: %s", host, err).
			WithHint("check the network and the name of the registry; what was fetched so far is kept")
	}
	return fmt.Errorf("pull %s: %w", p.ref, err)
}

func (p *puller) explainStatus(te *transport.Error, host string) error {
	switch te.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return api.Errorf(api.CodeInvalid, "the registry %s doesn't let you pull %s", host, p.ref).
			WithHint("check the name; if it is right, log in with: docker login %s (or podman login)", host)
	case http.StatusNotFound:
		return api.Errorf(api.CodeNotFound, "the registry %s has no %s", host, p.ref).
			WithHint("check the name and the tag")
	case http.StatusTooManyRequests:
		return api.Errorf(api.CodeHost, "the registry %s refuses more pulls for now: %v", host, te).
			WithHint("try again later, or log in with: docker login %s", host)
	}
	return api.Errorf(api.CodeHost, "the registry %s failed: %v", host, te).WithHint("try again later")
}

func isNetwork(err error) bool {
	var ne net.Error
	var oe *net.OpError
	return errors.As(err, &ne) || errors.As(err, &oe) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled)
}
