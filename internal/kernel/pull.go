package kernel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"banger/internal/api"
	"banger/internal/bundle"
	"banger/internal/catalog"
	"banger/internal/depot"
	"banger/internal/naming"
)

// Pull gets a kernel of the catalog, or one in a bundle, and replaces the one
// of that name, if there is one.
//
// That may be in use. A VM that runs keeps the files that it has open, and the
// next boot of every VM of that kernel is with the new one, which is what
// pulling anew is for. Only while somebody holds the old one, as during a
// boot, Pull waits with the exchange.
func (s *Store) Pull(ctx context.Context, req api.PullKernel, pf api.ProgressFunc) (api.Kernel, error) {
	name, job, err := s.pullJob(ctx, req)
	if err != nil {
		return api.Kernel{}, err
	}
	k, err := s.depot.Replace(ctx, name, pf, s.mayReplace(name, job.source, req.Name != ""), job.Job)
	if err != nil {
		return api.Kernel{}, fmt.Errorf("pull kernel %s: %w", name, err)
	}
	return s.describe(ctx, k)
}

// job is how to get a kernel.
type job struct {
	depot.Job
	source string // Kernel.Source of the result
}

// pullJob returns what to do for a request, and the name of the result.
func (s *Store) pullJob(ctx context.Context, req api.PullKernel) (string, job, error) {
	name := req.Name
	if bundle.IsSource(req.Ref) {
		name, err := s.bundleName(ctx, req)
		return name, s.bundleJob(name, req.Ref, req.SHA256), err
	}
	entry, ok := s.entry(ctx, req.Ref)
	if !ok {
		return "", job{}, s.errUnknown(ctx, req.Ref)
	}
	if req.SHA256 != "" {
		return "", job{}, api.Errorf(api.CodeInvalid, "a sha256 can only be asked of a bundle; the catalog has its own for %s", req.Ref)
	}
	if name == "" {
		name = req.Ref
	}
	return name, s.catalogJob(name, entry), naming.CheckStored("a kernel", name)
}

// bundleName returns what the user calls a bundle's kernel, else what its
// publisher does, else the file's name.
func (s *Store) bundleName(ctx context.Context, req api.PullKernel) (string, error) {
	if req.Name != "" {
		return req.Name, naming.CheckStored("a kernel", req.Name)
	}
	data, err := bundle.Manifest(ctx, req.Ref, bundle.Options{Client: s.client, Log: s.log})
	if err != nil {
		return "", err
	}
	var theirs manifest
	if err := json.Unmarshal(data, &theirs); err != nil {
		return "", unusable(req.Ref, err)
	}
	name := cmp.Or(theirs.Name, bundle.NameOf(req.Ref))
	return name, naming.CheckStored("a kernel", name)
}

// unusable is the error about a bundle that says what can't be.
func unusable(source string, why error) error {
	return api.Errorf(api.CodeInvalid, "the bundle %s can't be used: %v", bundle.Redact(source), why).
		WithHint("ask its publisher, or make one with: banger kernel export")
}

// mayReplace returns a check that keeps a kernel that a pull would not bring
// back: one of the user's own files, and, unless the user has chosen the name,
// one from elsewhere.
func (s *Store) mayReplace(name, source string, chosen bool) func(context.Context) error {
	return func(context.Context) error {
		old, err := s.depot.Get(name)
		if err != nil {
			return nil //nolint:nilerr // it is damaged, so nothing is lost with it
		}
		if old.Origin == api.OriginImported || (old.Source != source && !chosen) {
			return api.Errorf(api.CodeExists, "there is a kernel %s from elsewhere (%s)", name, old.Source).
				WithHint("choose another name with --name, or delete it first: banger kernel delete %s", name)
		}
		return nil
	}
}

// catalogJob unpacks the bundle of this machine or, if there is none or it
// can't be had, builds the kernel.
func (s *Store) catalogJob(name string, entry catalog.Kernel) job {
	source := catalogSource(entry.Name)
	get := func(ctx context.Context, dir string, report depot.Report) error {
		built := entry.Recipe != nil && entry.Recipe.Package[s.arch] != ""
		if b, ok := entry.BundleFor(s.arch); ok {
			err := s.unpack(ctx, dir, manifest{Name: name, Source: source}, b.URL, b.SHA256, report)
			// Not after a bundle that isn't what the catalog says: something
			// is wrong then, which nobody should work around.
			unreachable := errors.Is(err, api.ErrHost) || errors.Is(err, api.ErrNotFound)
			if !built || !unreachable || ctx.Err() != nil {
				return err
			}
			s.log.Warn("the kernel's bundle can't be had; it is built instead", "kernel", name, "err", err)
			if err := depot.Empty(dir); err != nil {
				return err
			}
		}
		return s.build(ctx, manifest{Name: name, Arch: s.arch, Source: source}, *entry.Recipe, dir, report, s.log)
	}
	title := "building kernel " + name
	if _, ok := entry.BundleFor(s.arch); ok {
		title = "pulling kernel " + name
	}
	return job{source: source, Job: depot.Job{Key: source, Phase: "kernel-build", Title: title, Build: get}}
}

// catalogSource is Kernel.Source of a kernel of the catalog.
func catalogSource(name string) string { return "catalog " + name }

// bundleJob unpacks a bundle that the user names.
func (s *Store) bundleJob(name, ref, sha256 string) job {
	source := bundle.Redact(ref)
	get := func(ctx context.Context, dir string, report depot.Report) error {
		return s.unpack(ctx, dir, manifest{Name: name, Source: source}, ref, sha256, report)
	}
	key := "bundle " + ref + " " + sha256
	return job{source: source, Job: depot.Job{Key: key, Phase: "kernel-pull", Title: bundle.Doing(ref) + " kernel " + name, Build: get}}
}

// maxBundle bounds what a bundle may unpack to, holes included.
const maxBundle = 8 << 30

// unpack makes a kernel of a bundle in the empty directory dir. It takes the
// name and source of m.
func (s *Store) unpack(ctx context.Context, dir string, m manifest, ref, sha256 string, report depot.Report) error {
	_, err := bundle.Unpack(ctx, ref, dir, bundle.Options{
		SHA256:   sha256,
		CacheDir: s.layout.DownloadsDir(),
		MaxBytes: maxBundle,
		Allowed:  allowed,
		Report:   report,
		Client:   s.client,
		Log:      s.log,
	})
	if err != nil {
		return err
	}
	report("checking the kernel", 98)
	theirs, err := checkUnpacked(dir, s.arch)
	if err != nil {
		return unusable(ref, err)
	}
	theirs.Name, theirs.Origin, theirs.Source = m.Name, api.OriginBundle, m.Source
	return writeManifest(dir, theirs)
}
