package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/config"
	"banger/internal/dockerbuild"
	"banger/internal/image"
	"banger/internal/kernel"
	"banger/internal/paths"
	"banger/internal/vm"
)

// dockerImage has the Docker that builds Dockerfiles.
const dockerImage = "debian-bookworm"

// stores makes the stores of kernels and images. Each must yet be told of its
// users.
func stores(cfg config.Config, layout paths.Layout, log *slog.Logger) (*kernel.Store, *image.Store) {
	offer := offered(cfg, layout, log)
	kernels := kernel.New(kernel.Config{Layout: layout, Catalog: offer, Log: log})
	images := image.New(image.Config{
		Layout:  layout,
		Catalog: offer,
		Default: cfg.DefaultImageName,
		Kernel: func(ctx context.Context, name string, pf api.ProgressFunc) error {
			_, err := kernels.Ensure(ctx, name, pf)
			return err
		},
		Log: log,
	})
	return kernels, images
}

// offered returns a function that returns the catalog: the program's own and,
// over it, the one that the user has configured.
func offered(cfg config.Config, layout paths.Layout, log *slog.Logger) func(context.Context) catalog.Catalog {
	own := catalog.Embedded()
	if cfg.CatalogURL == "" {
		return func(context.Context) catalog.Catalog { return own }
	}
	remote := catalog.Remote{URL: cfg.CatalogURL, CacheFile: layout.RemoteCatalog(), Log: log}
	var mu sync.Mutex
	var offer catalog.Catalog
	var loaded time.Time
	return func(ctx context.Context) catalog.Catalog {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(loaded) < catalogFresh {
			return offer
		}
		theirs, err := remote.Load(ctx)
		switch {
		case ctx.Err() != nil:
			return own // the caller is gone
		case err != nil:
			log.Warn("the catalog of catalog_url is left out", "err", err)
			offer = own
		default:
			offer = own.Extend(theirs)
		}
		loaded = time.Now()
		return offer
	}
}

// catalogFresh is how long a catalog is not asked for again: one command may
// need it many times, and its server may be slow.
const catalogFresh = 5 * time.Second

// guests is what images need of VMs.
type guests struct {
	*vm.Manager
	*dockerbuild.Builder
}

// kernelUsers tells which images and VMs use a kernel.
func kernelUsers(images *image.Store, manager *vm.Manager) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, name string) ([]string, error) {
		ofImages, err := images.OfKernel(name)
		if err != nil {
			return nil, err
		}
		ofVMs, err := manager.KernelUsers(ctx, name)
		if err != nil {
			return nil, err
		}
		var users []string
		for _, image := range ofImages {
			users = append(users, "image "+image)
		}
		for _, vm := range ofVMs {
			users = append(users, "vm "+vm)
		}
		return users, nil
	}
}
