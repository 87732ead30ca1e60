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
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"banger/internal/api"
	"banger/internal/room"
	"banger/internal/transfer"
	"banger/internal/weburl"
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
	retry     transfer.Retry
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

// getBlob asks for a blob from an offset on.
func (r *registry) getBlob(ctx context.Context, digest v1.Hash, offset int64) (transfer.Part, error) {
	u := url.URL{
		Scheme: r.repo.Scheme(),
		Host:   r.repo.RegistryStr(),
		Path:   fmt.Sprintf("/v2/%s/blobs/%s", r.repo.RepositoryStr(), digest),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return transfer.Part{}, fmt.Errorf("make the request: %w", err)
	}
	transfer.Ask(req, offset)
	resp, err := (&http.Client{Transport: r.transport}).Do(req)
	if err != nil {
		return transfer.Part{}, weburl.Error(err) // object stores' URLs are signed
	}
	part, ok, err := transfer.Read(resp, offset)
	if err == nil && !ok {
		err = transport.CheckError(resp, http.StatusOK)
	}
	if err != nil {
		resp.Body.Close()
		return transfer.Part{}, err
	}
	part.Total = 0 // the manifest tells
	return part, nil
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
	case room.IsFull(err):
		return room.Full(p.opts.CacheDir, "make room there and pull again; what was fetched so far is kept")
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
	return errors.As(err, &ne) || errors.As(err, &oe) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, transfer.ErrStalled)
}
