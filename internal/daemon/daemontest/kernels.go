package daemontest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"banger/internal/api"
)

// kernelBytes is what every kernel takes.
const kernelBytes = 100 << 20

// Kernels is a daemon.Kernels whose kernels are records in memory.
type Kernels struct {
	VMs    *VMs
	Images *Images

	mu      sync.Mutex
	kernels map[string]api.Kernel // by name, without UsedBy
}

// List returns the kernels in the order of their names.
func (f *Kernels) List(ctx context.Context) ([]api.Kernel, error) {
	vms, err := f.VMs.List(ctx)
	if err != nil {
		return nil, err
	}
	images, err := f.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	kernels := slices.SortedFunc(maps.Values(f.kernels), func(a, b api.Kernel) int { return cmp.Compare(a.Name, b.Name) })
	f.mu.Unlock()
	for i := range kernels {
		k := &kernels[i]
		k.UsedBy = []string{}
		for _, img := range images {
			if img.Kernel == k.Name {
				k.UsedBy = append(k.UsedBy, "image "+img.Name)
			}
		}
		for _, vm := range vms {
			if vm.Kernel == k.Name {
				k.UsedBy = append(k.UsedBy, "vm "+vm.Name)
			}
		}
	}
	return kernels, nil
}

// Get returns one kernel.
func (f *Kernels) Get(ctx context.Context, name string) (api.Kernel, error) {
	kernels, err := f.List(ctx)
	return find("kernel", name, kernels, err, func(k api.Kernel) string { return k.Name })
}

// Catalog returns two kernels.
func (f *Kernels) Catalog(context.Context) ([]api.CatalogEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries := catalogKernels()
	for i := range entries {
		_, entries[i].Here = f.kernels[entries[i].Name]
	}
	return entries, nil
}

func catalogKernels() []api.CatalogEntry {
	return []api.CatalogEntry{
		{Name: "generic-6.12", Description: "Linux 6.12", Arch: []string{"amd64"}, DownloadBytes: 90 << 20, DiskBytes: kernelBytes, Origin: api.OriginRecipe, Default: true},
		{Name: "generic-6.1", Description: "Linux 6.1", Arch: []string{"amd64"}, DownloadBytes: 80 << 20, DiskBytes: kernelBytes, Origin: api.OriginRecipe},
	}
}

// ensure adds a kernel of the catalog unless it is there.
func (f *Kernels) ensure(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, here := f.kernels[name]; here {
		return nil
	}
	for _, e := range catalogKernels() {
		if e.Name == name {
			f.put(api.Kernel{Name: name, Origin: api.OriginRecipe, Source: "linux-image-amd64"})
			return nil
		}
	}
	return api.Errorf(api.CodeNotFound, "there is no kernel %q, neither on this host nor in the catalog", name).
		WithHint("run: banger kernel list --catalog")
}

// put adds a kernel. The caller holds mu.
func (f *Kernels) put(k api.Kernel) api.Kernel {
	k.Release, k.Version = cmp.Or(k.Release, strings.TrimPrefix(k.Name, "generic-")+".0-amd64"), "1"
	k.Arch, k.DiskBytes, k.Created, k.UsedBy = "amd64", kernelBytes, time.Now().UTC(), []string{}
	if f.kernels == nil {
		f.kernels = make(map[string]api.Kernel)
	}
	f.kernels[k.Name] = k
	return k
}

// Pull makes a kernel of the catalog or of a bundle.
func (f *Kernels) Pull(ctx context.Context, req api.PullKernel, progress api.ProgressFunc) (api.Kernel, error) {
	k := api.Kernel{Source: req.Ref, Origin: api.OriginBundle, Name: strings.TrimSuffix(path.Base(req.Ref), ".tar.zst")}
	isCatalog := slices.ContainsFunc(catalogKernels(), func(e api.CatalogEntry) bool { return e.Name == req.Ref })
	switch {
	case isCatalog:
		k.Origin = api.OriginRecipe
	case filepath.IsAbs(req.Ref):
		if err := checkBundle(req.Ref, req.SHA256); err != nil {
			return k, err
		}
	case req.Ref == NameHangs:
		goOn(ctx, progress, api.Progress{Phase: "kernel-fetch", Title: "fetching " + req.Ref})
		return k, fmt.Errorf("fetch kernel %s: %w", req.Ref, ctx.Err())
	case !strings.Contains(req.Ref, "://"):
		return k, api.Errorf(api.CodeNotFound, "the catalog has no kernel %q", req.Ref).WithHint("see: banger kernel list --catalog")
	}
	progress.Report(api.Progress{Phase: "kernel-fetch", Title: "fetching " + req.Ref, Finished: true, Millis: 6})
	k.Name = cmp.Or(req.Name, k.Name)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.put(k), nil
}

// Import makes a kernel of files that exist.
func (f *Kernels) Import(_ context.Context, req api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error) {
	for _, file := range []string{req.Image, req.Modules} {
		if _, err := os.Stat(file); err != nil {
			return api.Kernel{}, api.Errorf(api.CodeInvalid, "read the kernel: %v", err)
		}
	}
	progress.Report(api.Progress{Phase: "kernel-import", Title: "copying the modules", Finished: true, Millis: 2})
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, exists := f.kernels[req.Name]; exists {
		return api.Kernel{}, api.Errorf(api.CodeExists, "kernel %s exists already", req.Name)
	}
	return f.put(api.Kernel{Name: req.Name, Origin: api.OriginImported, Source: req.Image, Release: filepath.Base(req.Modules)}), nil
}

// Export writes a made-up bundle.
func (f *Kernels) Export(ctx context.Context, name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
	if _, err := f.Get(ctx, name); err != nil {
		return api.Exported{}, err
	}
	return writeBundle(name, req, progress)
}

// Delete deletes a kernel that nothing uses.
func (f *Kernels) Delete(ctx context.Context, name string) error {
	k, err := f.Get(ctx, name)
	if err != nil {
		return err
	}
	if len(k.UsedBy) > 0 {
		return inUse("kernel", name, k.UsedBy)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.kernels, name)
	return nil
}

// Prune deletes the kernels that nothing uses and that can be had again.
func (f *Kernels) Prune(ctx context.Context, req api.Prune) (api.Pruned, error) {
	kernels, err := f.List(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	r := removal{dryRun: req.DryRun}
	for _, k := range kernels {
		if len(k.UsedBy) == 0 && reusable(k.Origin) {
			r.take("kernel", k.Name, k.DiskBytes, func() { delete(f.kernels, k.Name) })
		}
	}
	return r.pruned, err
}
