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

// DefaultKernel is the kernel of images that name none.
const DefaultKernel = "generic-6.12"

// ociBytes is what the layers of every registry's image take in the cache.
const ociBytes = 3 << 20

// Images is a daemon.Images whose images are records in memory. Images of
// registries have a Config. References named like the VMs that behave badly
// do so too.
type Images struct {
	VMs     *VMs
	Kernels *Kernels
	// Layers is how many layers the images of registries have; they are
	// fetched side by side.
	Layers int

	mu        sync.Mutex
	images    map[string]api.Image // by name, without UsedBy
	cache     int64
	cancelled int
}

// Cancelled returns how many pulls were cancelled half-way.
func (f *Images) Cancelled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cancelled
}

func (f *Images) cacheBytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cache
}

// List returns the images in the order of their names.
func (f *Images) List(ctx context.Context) ([]api.Image, error) {
	vms, err := f.VMs.List(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	images := slices.SortedFunc(maps.Values(f.images), func(a, b api.Image) int { return cmp.Compare(a.Name, b.Name) })
	f.mu.Unlock()
	for i := range images {
		images[i].UsedBy = []string{}
		for _, vm := range vms {
			if vm.Image == images[i].Name {
				images[i].UsedBy = append(images[i].UsedBy, vm.Name)
			}
		}
	}
	return images, nil
}

// Get returns one image.
func (f *Images) Get(ctx context.Context, name string) (api.Image, error) {
	images, err := f.List(ctx)
	return find("image", name, images, err, func(img api.Image) string { return img.Name })
}

// config is that of an image; nil if it has none or isn't there.
func (f *Images) config(name string) *api.ImageConfig {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.images[name].Config
}

// Catalog returns two images.
func (f *Images) Catalog(context.Context) ([]api.CatalogEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries := []api.CatalogEntry{
		{Name: "debian-bookworm", Description: "Debian 12 with Docker and build tools", Distro: "debian bookworm", DownloadBytes: 400 << 20, DiskBytes: 1536 << 20, Default: true},
		{Name: "debian-minimal", Description: "Debian 12 with systemd", Distro: "debian bookworm", DownloadBytes: 60 << 20, DiskBytes: 256 << 20},
	}
	for i := range entries {
		e := &entries[i]
		e.Arch, e.Kernel, e.Origin = []string{"amd64", "arm64"}, DefaultKernel, api.OriginRecipe
		_, e.Here = f.images[e.Name]
	}
	return entries, nil
}

// Pull makes an image of the kind that the reference looks like.
func (f *Images) Pull(ctx context.Context, req api.PullImage, progress api.ProgressFunc) (api.Image, error) {
	img, err := f.resolve(ctx, req)
	if err != nil {
		return img, err
	}
	step := api.Progress{Phase: "image-fetch", Title: "fetching " + req.Ref, Total: 2, Unit: "bytes"}
	progress.Report(step)
	switch req.Ref {
	case NameFails:
		return img, fmt.Errorf("pull image %s: %w", req.Ref, api.Errorf(api.CodeHost, "the disk is full").WithHint("run: banger image prune"))
	case NameHangs:
		goOn(ctx, progress, step)
		f.mu.Lock()
		f.cancelled++
		f.mu.Unlock()
		return img, fmt.Errorf("fetch image %s: %w", req.Ref, ctx.Err())
	}
	step.Done, step.Finished, step.Millis = 2, true, 7
	progress.Report(step)
	if img.Origin == api.OriginOCI {
		fetchLayers(f.Layers, progress)
		f.mu.Lock()
		f.cache += ociBytes
		f.mu.Unlock()
	}
	return f.put(img, req.Name, req.Kernel, true)
}

// fetchLayers reports the progress of layers that are fetched side by side.
func fetchLayers(n int, progress api.ProgressFunc) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			step := api.Progress{Phase: fmt.Sprintf("layer-%012x", i), Title: fmt.Sprintf("layer %012x", i), Total: 100, Unit: "bytes"}
			for ; step.Done < step.Total; step.Done++ {
				progress.Report(step)
			}
			step.Finished, step.Millis = true, 2
			progress.Report(step)
		})
	}
	wg.Wait()
}

// resolve finds out what a reference means, as the real service does.
func (f *Images) resolve(ctx context.Context, req api.PullImage) (api.Image, error) {
	img := api.Image{Source: req.Ref, DiskBytes: 256 << 20}
	entries, err := f.Catalog(ctx)
	if err != nil {
		return img, err
	}
	i := slices.IndexFunc(entries, func(e api.CatalogEntry) bool { return e.Name == req.Ref })
	ref := path.Base(req.Ref)
	switch {
	case i >= 0:
		img.Name, img.Origin, img.Distro, img.DiskBytes = req.Ref, api.OriginRecipe, entries[i].Distro, entries[i].DiskBytes
	case filepath.IsAbs(req.Ref):
		img.Name, img.Origin = strings.TrimSuffix(ref, ".tar.zst"), api.OriginBundle
		return img, checkBundle(req.Ref, req.SHA256)
	case strings.Contains(req.Ref, "://"):
		img.Name, img.Origin = strings.TrimSuffix(ref, ".tar.zst"), api.OriginBundle
	case strings.ContainsAny(req.Ref, "/:") || req.Platform != "":
		img.Name, _, _ = strings.Cut(ref, ":")
		img.Origin, img.Digest = api.OriginOCI, "sha256:"+strings.Repeat("0", 64)
		img.Config = &api.ImageConfig{
			Env: []string{"LANG=C.UTF-8"}, WorkingDir: "/srv", User: "1000:1000",
			Entrypoint: []string{"env", "ENTRY=yes"}, Cmd: []string{"serve"},
		}
	case req.Ref == NameHangs || req.Ref == NameFails:
		img.Name, img.Origin = req.Ref, api.OriginOCI
	default:
		return img, api.Errorf(api.CodeNotFound, "the catalog has no image %q", req.Ref).WithHint("see: banger image list --catalog")
	}
	return img, nil
}

// put adds an image, and its kernel if that isn't there.
func (f *Images) put(img api.Image, name, kernel string, replace bool) (api.Image, error) {
	img.Name, img.Kernel = cmp.Or(name, img.Name), cmp.Or(kernel, DefaultKernel)
	if err := f.Kernels.ensure(img.Kernel); err != nil {
		return img, err
	}
	img.Arch, img.Created, img.UsedBy = "amd64", time.Now().UTC(), []string{}
	if img.Name == NameDamaged {
		img = api.Image{Name: img.Name, UsedBy: []string{}, Damaged: "the manifest of image damaged is damaged"}
	}
	img.Rootfs = cmp.Or(img.Rootfs, "/images/"+img.Name+"/rootfs.ext4")
	img.SizeBytes = cmp.Or(img.SizeBytes, 2*img.DiskBytes)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, exists := f.images[img.Name]; exists && !replace {
		return img, api.Errorf(api.CodeExists, "image %s exists already", img.Name).WithHint("delete it first: banger image delete %s", img.Name)
	}
	if f.images == nil {
		f.images = make(map[string]api.Image)
	}
	f.images[img.Name] = img
	return img, nil
}

// Register adds an image of a file that exists.
func (f *Images) Register(_ context.Context, req api.RegisterImage) (api.Image, error) {
	info, err := os.Stat(req.Rootfs)
	if err != nil {
		return api.Image{}, api.Errorf(api.CodeInvalid, "look at the root file system: %v", err)
	}
	img := api.Image{Origin: api.OriginRegistered, Source: req.Rootfs, Rootfs: req.Rootfs, SizeBytes: info.Size()}
	return f.put(img, req.Name, req.Kernel, false)
}

// Build makes an image of a file that exists. Its Source tells all that was
// asked for.
func (f *Images) Build(_ context.Context, req api.BuildImage, progress api.ProgressFunc) (api.Image, error) {
	if _, err := os.Stat(req.File); err != nil {
		return api.Image{}, api.Errorf(api.CodeInvalid, "read the file: %v", err)
	}
	img := api.Image{
		Name: strings.ToLower(strings.TrimSuffix(filepath.Base(req.File), ".toml")), Origin: api.OriginDockerfile,
		Source: fmt.Sprintf("%s in %q for %q with %v", req.File, req.Context, req.Target, req.Args), DiskBytes: 64 << 20,
	}
	if strings.HasSuffix(req.File, ".toml") {
		img.Origin = api.OriginRecipe
	}
	progress.Report(api.Progress{Phase: "image-build", Title: "building"})
	progress.Report(api.Progress{Phase: "image-build", Title: "building", Finished: true, Millis: 9})
	return f.put(img, req.Name, req.Kernel, true)
}

// Commit makes an image of a VM.
func (f *Images) Commit(ctx context.Context, req api.CommitImage, progress api.ProgressFunc) (api.Image, error) {
	vm, err := f.VMs.Get(ctx, req.VM)
	if err != nil {
		return api.Image{}, err
	}
	progress.Report(api.Progress{Phase: "image-commit", Title: "copying", Finished: true, Millis: 4})
	img := api.Image{Origin: api.OriginCommit, Source: vm.Name, DiskBytes: 32 << 20, Config: vm.Config}
	return f.put(img, req.Name, vm.Kernel, false)
}

// Export writes a made-up bundle.
func (f *Images) Export(ctx context.Context, name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
	if _, err := f.Get(ctx, name); err != nil {
		return api.Exported{}, err
	}
	return writeBundle(name, req, progress)
}

// Delete deletes an image that no VM uses.
func (f *Images) Delete(ctx context.Context, name string) error {
	img, err := f.Get(ctx, name)
	if err != nil {
		return err
	}
	if len(img.UsedBy) > 0 {
		return inUse("image", name, []string{"vm " + img.UsedBy[0]})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.images, name)
	return nil
}

// Prune deletes the images that nothing uses and that can be had again.
func (f *Images) Prune(ctx context.Context, req api.Prune) (api.Pruned, error) {
	images, err := f.List(ctx)
	if err != nil {
		return api.Pruned{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := removal{dryRun: req.DryRun}
	for _, img := range images {
		if len(img.UsedBy) == 0 && reusable(img.Origin) {
			r.take("image", img.Name, img.DiskBytes, func() { delete(f.images, img.Name) })
		}
	}
	if f.cache > 0 {
		r.take("cache", "oci", f.cache, func() { f.cache = 0 })
	}
	return r.pruned, nil
}
