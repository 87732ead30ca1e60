// Package oci fetches container images from registries: it picks the platform,
// logs in as docker and podman do, and keeps the layers, compressed as they
// come, in a cache by digest. Package flatten makes a tree of them.
//
// The protocol is https://github.com/opencontainers/distribution-spec.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/image/oci/flatten"
	"banger/internal/room"
	"banger/internal/transfer"
	"banger/internal/weburl"
)

// defaultParallel is how many layers are fetched at once unless the caller
// says otherwise; docker's default is 3.
const defaultParallel = 4

// maxConfig bounds the configuration of an image, in bytes.
const maxConfig = 8 << 20

// Options are the parameters of Pull. Only CacheDir is needed.
type Options struct {
	// CacheDir is where blobs are kept. Any number of processes may share it.
	CacheDir string
	// Platform is the wanted one, as "linux/arm64" or "linux/arm/v7"; empty
	// means Linux on this host's processor.
	Platform string
	// Keychain finds credentials; nil means Keychain().
	Keychain authn.Keychain
	// Parallel is how many layers are fetched at once; 0 means 4.
	Parallel int
	// Progress gets the phase "image-manifest" and one phase "layer-…" per
	// layer.
	Progress api.ProgressFunc
	// Transport is what requests go through; nil means one like
	// http.DefaultTransport.
	Transport http.RoundTripper
	// Log gets what is tried again, and why; nil means nothing.
	Log *slog.Logger
	// Free returns how many bytes can be written below a directory; nil means
	// room.Free. For tests.
	Free func(dir string) (int64, error)
}

// Image is an image in the cache or in an archive.
type Image struct {
	Ref      string // the full name, e.g. "index.docker.io/library/alpine:3.20"
	Digest   string // of the manifest for the platform
	Platform string // e.g. "linux/amd64"
	Config   Config
	Layers   []flatten.Layer // the lowest first

	held []*os.File // locked, so that they stay in the cache
}

// Close lets PruneCache have the layers, which are not to be read any more.
func (i Image) Close() error {
	var errs []error
	for _, f := range i.held {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Pull fetches an image by tag or digest. What the cache has already isn't
// fetched again, nor is what another pull is fetching at the same time: that is
// waited for. A pull that was interrupted goes on where it stopped. The result
// is to be closed once its layers have been read.
//
// Errors: api.CodeInvalid for a name, a platform or an image that makes no
// sense and for missing rights, api.CodeNotFound if the registry has no such
// image or the image no such platform, api.CodeHost if the registry can't be
// reached or the disk has no room, but for what room.Limit leaves.
func Pull(ctx context.Context, ref string, opts Options) (Image, error) {
	p, err := newPuller(ref, opts)
	if err != nil {
		return Image{}, err
	}
	return p.pull(ctx)
}

// puller is one pull.
type puller struct {
	wanted
	opts  Options
	ref   name.Reference
	retry transfer.Retry
	log   *slog.Logger
}

func newPuller(ref string, opts Options) (*puller, error) {
	p := &puller{opts: opts, retry: transfer.DefaultRetry, log: opts.Log}
	var err error
	if p.ref, err = parseRef(ref); err != nil {
		return nil, err
	}
	p.name = p.ref.String()
	if p.platform, err = parsePlatform(opts.Platform); err != nil {
		return nil, err
	}
	if p.log == nil {
		p.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if p.opts.Parallel <= 0 {
		p.opts.Parallel = defaultParallel
	}
	if p.opts.Keychain == nil {
		p.opts.Keychain = Keychain()
	}
	if p.opts.Transport == nil {
		p.opts.Transport = newTransport()
	}
	p.opts.Transport = weburl.Transport(p.opts.Transport)
	return p, nil
}

func (p *puller) pull(ctx context.Context) (Image, error) {
	start := time.Now()
	step := api.Progress{Phase: "image-manifest", Title: "asking for " + p.ref.Name()}
	p.opts.Progress.Report(step)
	reg, err := p.connect(ctx)
	if err != nil {
		return Image{}, p.explain(err)
	}
	m, err := p.resolve(ctx, reg)
	if err != nil {
		return Image{}, p.explain(err)
	}
	limit := room.Limit{
		Dir: p.opts.CacheDir, Free: p.opts.Free,
		Hint: "make room there and pull again; layers that are complete are kept until `banger image prune`",
	}
	ctx, stop := limit.Watch(ctx)
	defer stop()
	cache := &cache{dir: p.opts.CacheDir, fetch: reg.download}
	config, err := p.config(ctx, cache, m)
	if err != nil {
		return Image{}, p.explain(err)
	}
	step.Finished, step.Millis = true, time.Since(start).Milliseconds()
	p.opts.Progress.Report(step)

	if err := limit.Check(cache.missing(m.Layers)...); err != nil {
		return Image{}, err
	}
	layers, held, err := p.layers(ctx, cache, m, config)
	if err != nil {
		return Image{}, p.explain(err)
	}
	return Image{
		held:     held,
		Ref:      p.ref.Name(),
		Digest:   m.digest.String(),
		Platform: platformOf(config, m.platform).String(),
		Config:   newConfig(config),
		Layers:   layers,
	}, nil
}

// config fetches and checks the configuration.
func (p *puller) config(ctx context.Context, c *cache, m manifest) (*v1.ConfigFile, error) {
	if m.Config.Size > maxConfig {
		return nil, api.Errorf(api.CodeInvalid, "the configuration of %s has %d bytes", p.ref, m.Config.Size)
	}
	f, err := c.get(ctx, m.Config, func(int64) {})
	if err != nil {
		return nil, fmt.Errorf("fetch the image's configuration: %w", err)
	}
	defer f.Close()
	config, err := readConfig(f)
	if err != nil {
		return nil, err
	}
	if err := p.checkConfig(config, len(m.Layers), m.platform); err != nil {
		return nil, err
	}
	return config, nil
}

// layers fetches the layers side by side and returns them, and their files,
// which keep the cache from being pruned of them.
func (p *puller) layers(ctx context.Context, c *cache, m manifest, config *v1.ConfigFile) ([]flatten.Layer, []*os.File, error) {
	layers := make([]flatten.Layer, len(m.Layers))
	files := make([]*os.File, len(m.Layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.opts.Parallel)
	first := make(map[v1.Hash]int) // images may list the same layer twice
	for i, desc := range m.Layers {
		layers[i] = flatten.Layer{Digest: desc.Digest.String(), DiffID: config.RootFS.DiffIDs[i].String(), Size: desc.Size}
		if _, again := first[desc.Digest]; again {
			continue
		}
		first[desc.Digest] = i
		group.Go(guard.ErrFunc("fetch a layer", func() error {
			var err error
			if files[i], err = p.layer(ctx, c, desc); err != nil {
				return fmt.Errorf("fetch layer %d of %d (%.12s): %w", i+1, len(m.Layers), desc.Digest.Hex, err)
			}
			return nil
		}))
	}
	err := group.Wait()
	held := slices.DeleteFunc(slices.Clone(files), func(f *os.File) bool { return f == nil })
	if err != nil {
		return nil, nil, errors.Join(err, Image{held: held}.Close())
	}
	for i, desc := range m.Layers {
		layers[i].Path = files[first[desc.Digest]].Name()
	}
	return layers, held, nil
}

// layer fetches one layer and reports how that goes.
func (p *puller) layer(ctx context.Context, c *cache, desc v1.Descriptor) (*os.File, error) {
	start, last := time.Now(), time.Time{}
	step := api.Progress{
		Phase: "layer-" + desc.Digest.Hex[:12],
		Title: "layer " + desc.Digest.Hex[:12],
		Total: desc.Size,
		Unit:  "bytes",
	}
	p.opts.Progress.Report(step)
	f, err := c.get(ctx, desc, func(done int64) {
		if now := time.Now(); now.Sub(last) >= reportEvery {
			last = now
			step.Done = done
			p.opts.Progress.Report(step)
		}
	})
	if err == nil {
		step.Done = desc.Size
	}
	step.Finished, step.Millis = true, time.Since(start).Milliseconds()
	p.opts.Progress.Report(step)
	return f, err
}

// reportEvery is the least time between two progress events of a layer.
const reportEvery = 100 * time.Millisecond
