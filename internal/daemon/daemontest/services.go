package daemontest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"banger/internal/api"
)

// Services are fakes that know of each other, as the real ones do.
type Services struct {
	VMs     *VMs
	Images  *Images
	Kernels *Kernels
	Usage   Usage
}

// NewServices returns services without VMs, images and kernels, whose files
// are in dir.
func NewServices(dir string) Services {
	vms, images, kernels := &VMs{Dir: dir}, &Images{}, &Kernels{}
	vms.Images = images
	images.VMs, images.Kernels = vms, kernels
	kernels.VMs, kernels.Images = vms, images
	return Services{vms, images, kernels, Usage{vms, images, kernels}}
}

// vmBytes is what each VM takes.
const vmBytes = 1 << 20

// Usage is a daemon.Usage of the other services.
type Usage struct {
	vms     *VMs
	images  *Images
	kernels *Kernels
}

// Usage counts an image or kernel as shared if anything uses it, and as
// reclaimable if not.
func (u Usage) Usage(ctx context.Context) (api.Usage, error) {
	var total api.Usage
	add := func(item api.UsageItem) {
		total.Items = append(total.Items, item)
		total.Reclaimable += item.Reclaimable
	}
	size := make(map[string]int64) // by kind and name
	own := func(kind, name string, bytes int64, usedBy []string) {
		total.Bytes += bytes
		size[kind+" "+name] = bytes
		item := api.UsageItem{Kind: kind, Name: name, UsedBy: usedBy}
		if len(usedBy) > 0 {
			item.Shared = bytes
		} else {
			item.Exclusive, item.Reclaimable = bytes, bytes
		}
		add(item)
	}
	images, err := u.images.List(ctx)
	if err != nil {
		return total, err
	}
	for _, img := range images {
		own("image", img.Name, img.DiskBytes, img.UsedBy)
	}
	kernels, err := u.kernels.List(ctx)
	if err != nil {
		return total, err
	}
	for _, k := range kernels {
		own("kernel", k.Name, k.DiskBytes, k.UsedBy)
	}
	vms, err := u.vms.List(ctx)
	if err != nil {
		return total, err
	}
	for _, vm := range vms {
		total.Bytes += vmBytes
		add(api.UsageItem{
			Kind: "vm", Name: vm.Name, Exclusive: vmBytes,
			Shared: size["image "+vm.Image] + size["kernel "+vm.Kernel],
		})
	}
	if n := u.images.cacheBytes(); n > 0 {
		own("cache", "oci", n, nil)
	}
	return total, nil
}

// writeBundle writes a made-up bundle of something by that name.
func writeBundle(name string, req api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
	if !filepath.IsAbs(req.Path) {
		return api.Exported{}, api.Errorf(api.CodeInvalid, "%s is not an absolute path", req.Path)
	}
	data := []byte("bundle of " + name + "\n")
	step := api.Progress{Phase: "export", Title: "exporting " + name, Total: int64(len(data)), Unit: "bytes"}
	progress.Report(step)
	if err := os.WriteFile(req.Path, data, 0o644); err != nil {
		return api.Exported{}, api.Errorf(api.CodeHost, "write the bundle: %v", err)
	}
	step.Done, step.Finished, step.Millis = step.Total, true, 3
	progress.Report(step)
	return api.Exported{Path: req.Path, SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Bytes: step.Total}, nil
}

// checkBundle fails if there is no such file, or one with another sum than a
// request has.
func checkBundle(path, sum string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "read the bundle: %v", err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); sum != "" && sum != got {
		return api.Errorf(api.CodeInvalid, "the bundle %s has the sha256 %s instead of %s", path, got, sum)
	}
	return nil
}

// inUse is the error of a delete of something that users of it forbid.
func inUse(kind, name string, users []string) error {
	return api.Errorf(api.CodeConflict, "%s %s is used by %s", kind, name, users[0]).
		WithHint("delete what uses it first; banger du shows all of that")
}

// reusable tells whether a thing of that origin can be had again.
func reusable(o api.Origin) bool {
	return slices.Contains([]api.Origin{api.OriginRecipe, api.OriginBundle, api.OriginOCI}, o)
}
