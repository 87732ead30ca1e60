package diskusage

import (
	"context"
	"fmt"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/paths"
)

// Config is what a Service asks.
type Config struct {
	Layout paths.Layout
	VMs    interface {
		List(ctx context.Context) ([]api.VM, error)
	}
	Images interface {
		List(ctx context.Context) ([]api.Image, error)
		Prune(ctx context.Context, req api.Prune) (api.Pruned, error)
	}
	Kernels interface {
		List(ctx context.Context) ([]api.Kernel, error)
		Prune(ctx context.Context, req api.Prune) (api.Pruned, error)
	}
}

// Service adds up what everything takes.
type Service struct{ cfg Config }

// New returns a service.
func New(cfg Config) *Service { return &Service{cfg} }

// Usage measures every image, kernel, VM and cache.
func (s *Service) Usage(ctx context.Context) (api.Usage, error) {
	c := &count{reclaimable: make(map[string]int64), bytes: make(map[string]int64)}
	for _, step := range []func(context.Context, *count) error{s.pruned, s.images, s.kernels, s.vms, s.caches} {
		if err := step(ctx, c); err != nil {
			return api.Usage{}, fmt.Errorf("measure the disk's use: %w", err)
		}
	}
	for _, item := range c.usage.Items {
		c.usage.Reclaimable += item.Reclaimable
	}
	return c.usage, nil
}

// count is one measurement.
type count struct {
	usage       api.Usage
	reclaimable map[string]int64 // by kind and name: what a prune would free
	bytes       map[string]int64 // of images and kernels, by kind and name
}

// add counts something once, as its own or as shared by its users.
func (c *count) add(kind, name string, bytes int64, usedBy []string) {
	item := api.UsageItem{Kind: kind, Name: name, Reclaimable: c.reclaimable[kind+" "+name], UsedBy: usedBy}
	if len(usedBy) > 0 {
		item.Shared = bytes
	} else {
		item.Exclusive = bytes
	}
	c.bytes[kind+" "+name] = bytes
	c.usage.Bytes += bytes
	c.usage.Items = append(c.usage.Items, item)
}

// pruned asks what a prune would remove.
func (s *Service) pruned(ctx context.Context, c *count) error {
	for _, prune := range []func(context.Context, api.Prune) (api.Pruned, error){s.cfg.Images.Prune, s.cfg.Kernels.Prune} {
		would, err := prune(ctx, api.Prune{DryRun: true})
		if err != nil {
			return err
		}
		for _, item := range would.Removed {
			c.reclaimable[item.Kind+" "+item.Name] = item.Bytes
		}
	}
	return nil
}

func (s *Service) images(ctx context.Context, c *count) error {
	all, err := s.cfg.Images.List(ctx)
	for _, img := range all {
		c.add("image", img.Name, img.DiskBytes, img.UsedBy)
	}
	return err
}

func (s *Service) kernels(ctx context.Context, c *count) error {
	all, err := s.cfg.Kernels.List(ctx)
	for _, k := range all {
		c.add("kernel", k.Name, k.DiskBytes, k.UsedBy)
	}
	return err
}

// vms counts what each VM has for itself, and tells what it shares.
func (s *Service) vms(ctx context.Context, c *count) error {
	all, err := s.cfg.VMs.List(ctx)
	if err != nil {
		return err
	}
	for _, vm := range all {
		bytes, err := Tree(s.cfg.Layout.VMDir(vm.ID))
		if err != nil {
			return err
		}
		c.usage.Bytes += bytes
		c.usage.Items = append(c.usage.Items, api.UsageItem{
			Kind: "vm", Name: vm.Name, Exclusive: bytes,
			Shared: c.bytes["image "+vm.Image] + c.bytes["kernel "+vm.Kernel],
		})
	}
	return nil
}

// caches counts what can be made or downloaded again, directory by directory.
func (s *Service) caches(_ context.Context, c *count) error {
	entries, err := filepath.Glob(filepath.Join(s.cfg.Layout.Cache, "*"))
	if err != nil {
		return err
	}
	for _, path := range entries {
		bytes, err := Tree(path)
		if err != nil {
			return err
		}
		c.add("cache", filepath.Base(path), bytes, nil)
	}
	return nil
}
