package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"banger/internal/api"
	"banger/internal/weburl"
)

const (
	// maxRemote is how big a catalog on a server may be: thousands of entries.
	// Decoding four times as much can be made to take a minute.
	maxRemote = 1 << 20
	// remoteTimeout bounds the wait for a server. A catalog is small, and there
	// is a copy of it.
	remoteTimeout = 15 * time.Second
)

// Remote is a catalog on a web server. It adds to the program's own.
type Remote struct {
	URL       string       // http or https
	CacheFile string       // where the last catalog of the server is kept
	Client    *http.Client // nil: one that takes proxies from the environment
	Log       *slog.Logger
}

// cached is what CacheFile holds.
type cached struct {
	URL     string `json:"url"`
	ETag    string `json:"etag"`
	Catalog string `json:"catalog"` // TOML
}

// Load fetches the catalog, unless the copy of it is current. If the server
// doesn't answer as it should, the copy is used and a warning logged; without
// one that is an api.CodeHost error. A catalog that breaks the rules of
// checkRemote is an api.CodeInvalid error, copy or not.
func (r Remote) Load(ctx context.Context) (Catalog, error) {
	old, err := r.readCache()
	if err != nil {
		r.Log.Warn("leave out the copy of the catalog", "file", r.CacheFile, "err", err)
	}
	fresh, err := r.fetch(ctx, old)
	if ctx.Err() != nil {
		return Catalog{}, context.Cause(ctx)
	}
	if err != nil {
		if old.Catalog == "" {
			return Catalog{}, api.Errorf(api.CodeHost, "the catalog %s can't be fetched: %v", weburl.Redact(r.URL), err).
				WithHint("check catalog_url in the configuration and the network")
		}
		r.Log.Warn("use the copy of the catalog", "url", weburl.Redact(r.URL), "err", err)
		fresh = old
	}
	c, err := parseRemote([]byte(fresh.Catalog))
	if err != nil {
		return Catalog{}, api.Errorf(api.CodeInvalid, "%s: %v", weburl.Redact(r.URL), err)
	}
	if fresh != old {
		if err := r.writeCache(fresh); err != nil {
			r.Log.Warn("keep a copy of the catalog", "file", r.CacheFile, "err", err)
		}
	}
	return c, nil
}

// parseRemote reads a catalog of the network.
func parseRemote(data []byte) (Catalog, error) {
	var c Catalog
	if err := decode("catalog", data, &c); err != nil {
		return Catalog{}, err
	}
	// Before the recipes are completed, which may multiply what is in them.
	if err := c.checkRemote(); err != nil {
		return Catalog{}, err
	}
	return c.finished()
}

// checkRemote holds what a catalog of the network may say: it names bundles,
// pinned by their hash, which Parse checks. It has no recipes, because
// their commands run on this host with the rights of bangerd, and whoever runs
// or intercepts a web server must not be able to give such commands.
func (c Catalog) checkRemote() error {
	if len(c.Bases) > 0 {
		return errors.New("it has a [base], a recipe: only bundles may come from the network")
	}
	kernels := make(map[string]bool)
	for _, k := range Embedded().Kernels {
		kernels[k.Name] = true
	}
	for _, k := range c.Kernels {
		if k.Recipe != nil {
			return fmt.Errorf("kernel %q has a recipe: only bundles may come from the network", k.Name)
		}
		kernels[k.Name] = true
	}
	for _, img := range c.Images {
		if img.Recipe != nil {
			return fmt.Errorf("image %q has a recipe: only bundles may come from the network", img.Name)
		}
		if !kernels[img.Kernel] {
			return fmt.Errorf("image %q needs kernel %q, which is in no catalog", img.Name, img.Kernel)
		}
	}
	return nil
}

// fetch returns what the server has; that is old if the server says so.
func (r Remote) fetch(ctx context.Context, old cached) (cached, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return cached{}, weburl.Error(err)
	}
	if old.ETag != "" {
		req.Header.Set("If-None-Match", old.ETag)
	}
	resp, err := weburl.Client(r.Client).Do(req)
	if err != nil {
		return cached{}, weburl.Error(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && old.ETag != "" {
		return old, nil
	}
	if resp.StatusCode != http.StatusOK {
		return cached{}, fmt.Errorf("the server answers %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRemote+1))
	if err != nil {
		return cached{}, err
	}
	if len(data) > maxRemote {
		return cached{}, fmt.Errorf("it is bigger than %d MiB", maxRemote>>20)
	}
	return cached{URL: r.URL, ETag: resp.Header.Get("ETag"), Catalog: string(data)}, nil
}

// readCache returns the copy of the catalog, empty if there is none or if it
// is of another server.
func (r Remote) readCache() (cached, error) {
	data, err := os.ReadFile(r.CacheFile)
	if errors.Is(err, fs.ErrNotExist) {
		return cached{}, nil
	}
	if err != nil {
		return cached{}, err
	}
	var c cached
	if err := json.Unmarshal(data, &c); err != nil {
		return cached{}, err
	}
	if c.URL != r.URL {
		return cached{}, nil
	}
	return c, nil
}

func (r Remote) writeCache(c cached) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.CacheFile), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(r.CacheFile, data, 0o600)
}
