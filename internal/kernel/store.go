package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/paths"
)

// Config is what a Store needs.
type Config struct {
	Layout  paths.Layout
	Catalog func(ctx context.Context) catalog.Catalog
	// InUse says who uses a kernel, in words such as "image web" or "vm dev";
	// nil means nobody does. It must not call the Store.
	InUse  func(ctx context.Context, name string) ([]string, error)
	Client *http.Client // for bundles; nil means one that takes proxies from the environment
	Log    *slog.Logger
}

// Store keeps the kernels of one user.
type Store struct {
	layout  paths.Layout
	catalog func(ctx context.Context) catalog.Catalog
	users   atomic.Pointer[func(ctx context.Context, name string) ([]string, error)]
	client  *http.Client
	log     *slog.Logger
	depot   *depot.Depot[Kernel]
	arch    string // of this machine
	build   func(ctx context.Context, m manifest, r catalog.KernelRecipe, dir string, report depot.Report, log *slog.Logger) error
}

// New returns the store of a layout.
func New(cfg Config) *Store {
	s := &Store{
		layout:  cfg.Layout,
		catalog: cfg.Catalog,
		client:  cfg.Client,
		log:     cfg.Log,
		depot:   depot.New(cfg.Layout.KernelsDir(), load, cfg.Log),
		arch:    runtime.GOARCH,
		build:   build,
	}
	s.SetInUse(cfg.InUse)
	return s
}

// SetInUse sets Config.InUse later, for users that need the store themselves.
func (s *Store) SetInUse(inUse func(ctx context.Context, name string) ([]string, error)) {
	if inUse == nil {
		inUse = func(context.Context, string) ([]string, error) { return nil, nil }
	}
	s.users.Store(&inUse)
}

// usedBy returns who uses a kernel, never nil.
func (s *Store) usedBy(ctx context.Context, name string) ([]string, error) {
	users, err := (*s.users.Load())(ctx, name)
	if users == nil {
		users = []string{}
	}
	return users, err
}

// Ensure returns a kernel and, if it is of the catalog and isn't here, gets it
// first, which takes the network and some seconds. Calls that overlap share
// the work. pf may be nil.
func (s *Store) Ensure(ctx context.Context, name string, pf api.ProgressFunc) (Kernel, error) {
	if k, err := s.depot.Get(name); err == nil {
		return k, nil
	}
	entry, ok := s.entry(ctx, name)
	if !ok {
		return Kernel{}, s.errUnknown(ctx, name)
	}
	k, err := s.depot.Ensure(ctx, name, pf, s.catalogJob(name, entry).Job)
	if err != nil {
		return Kernel{}, fmt.Errorf("get kernel %s: %w", name, err)
	}
	return k, nil
}

// Find returns a kernel that is here. The error matches api.ErrNotFound if it
// isn't.
func (s *Store) Find(ctx context.Context, name string) (Kernel, error) {
	k, err := s.depot.Get(name)
	return k, s.explainMissing(ctx, name, err)
}

// Use is Ensure, but the kernel can be neither replaced nor deleted until
// release is called; by then Config.InUse must know of the use.
func (s *Store) Use(ctx context.Context, name string, pf api.ProgressFunc) (k Kernel, release func(), err error) {
	if _, err := s.Ensure(ctx, name, pf); err != nil {
		return Kernel{}, nil, err
	}
	return s.hold(ctx, name)
}

// hold is Use for a kernel that is here.
func (s *Store) hold(ctx context.Context, name string) (k Kernel, release func(), err error) {
	k, release, err = s.depot.Hold(name)
	return k, release, s.explainMissing(ctx, name, err)
}

// Clean removes what the builds of a killed bangerd left. Call it at start-up,
// before any Ensure.
func (s *Store) Clean(ctx context.Context) error { return s.depot.Clean(ctx) }

// explainMissing makes of an error that matches fs.ErrNotExist one that tells
// how to get the kernel.
func (s *Store) explainMissing(ctx context.Context, name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, ok := s.entry(ctx, name); !ok {
		return s.errUnknown(ctx, name)
	}
	return api.Errorf(api.CodeNotFound, "kernel %s is not on this host yet", name).
		WithHint("it is made when a VM first needs it, or by: banger kernel pull %s", name)
}

// entry returns a kernel of the catalog that there is for this machine.
func (s *Store) entry(ctx context.Context, name string) (catalog.Kernel, bool) {
	k, ok := s.catalog(ctx).Kernel(name)
	return k, ok && s.available(k)
}

// available tells whether a kernel of the catalog can be had for this machine.
// Kernels of other machines than x86 are no ELF files, and nothing here knows
// theirs.
func (s *Store) available(k catalog.Kernel) bool {
	if s.arch != "amd64" {
		return false
	}
	if _, ok := k.BundleFor(s.arch); ok {
		return true
	}
	return k.Recipe != nil && k.Recipe.Package[s.arch] != ""
}

func (s *Store) errUnknown(ctx context.Context, name string) error {
	var known []string
	for _, k := range s.catalog(ctx).Kernels {
		if s.available(k) {
			known = append(known, k.Name)
		}
	}
	return api.Errorf(api.CodeNotFound, "there is no kernel %q", name).
		WithHint("the catalog has: %s; banger kernel list shows what is on this host", strings.Join(known, ", "))
}
