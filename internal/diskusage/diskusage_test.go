package diskusage

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/api"
	"banger/internal/paths"

	"github.com/google/go-cmp/cmp"
)

func TestTree(t *testing.T) {
	dir := t.TempDir()
	empty, err := Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	sparse := filepath.Join(dir, "sparse")
	if err := os.WriteFile(sparse, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(sparse, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	got, err := Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	// 64 KiB once: neither the hole nor the second name counts.
	if got -= empty; got < 1<<16 || got > 1<<17 {
		t.Errorf("got %d bytes", got)
	}
	if got, err := Tree(filepath.Join(dir, "absent")); err != nil || got != 0 {
		t.Errorf("what isn't there has %d bytes (%v)", got, err)
	}
}

type fakeVMs []api.VM

func (f fakeVMs) List(context.Context) ([]api.VM, error) { return f, nil }

type fakeImages struct {
	list  []api.Image
	prune []api.PrunedItem
}

func (f fakeImages) List(context.Context) ([]api.Image, error) { return f.list, nil }

func (f fakeImages) Prune(_ context.Context, req api.Prune) (api.Pruned, error) {
	if !req.DryRun {
		panic("measuring must not remove anything")
	}
	return api.Pruned{Removed: f.prune}, nil
}

type fakeKernels struct {
	fakeImages
	list []api.Kernel
}

func (f fakeKernels) List(context.Context) ([]api.Kernel, error) { return f.list, nil }

func TestUsage(t *testing.T) {
	layout := paths.Layout{State: t.TempDir(), Cache: t.TempDir()}
	for path, size := range map[string]int{
		filepath.Join(layout.VMDisk("1")):             1 << 20,
		filepath.Join(layout.OCICache(), "a layer"):   1 << 18,
		filepath.Join(layout.Cache, "kvm-probe.json"): 10,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	usage, err := New(Config{
		Layout: layout,
		VMs:    fakeVMs{{ID: "1", Name: "web", Image: "used", Kernel: "k"}},
		Images: fakeImages{
			list:  []api.Image{{Name: "used", DiskBytes: 1000, UsedBy: []string{"web"}}, {Name: "idle", DiskBytes: 500}},
			prune: []api.PrunedItem{{Kind: "image", Name: "idle", Bytes: 500}, {Kind: "cache", Name: "oci", Bytes: 1 << 18}},
		},
		Kernels: fakeKernels{list: []api.Kernel{{Name: "k", DiskBytes: 100, UsedBy: []string{"image used", "vm web"}}}},
	}).Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	items := make(map[string]api.UsageItem)
	for _, item := range usage.Items {
		items[item.Kind+" "+item.Name] = item
		total += item.Exclusive
		if item.Kind != "vm" {
			total += item.Shared
		}
	}
	if total != usage.Bytes {
		t.Errorf("%d bytes in all, the items have %d", usage.Bytes, total)
	}
	if want := int64(500 + 1<<18); usage.Reclaimable != want {
		t.Errorf("%d bytes are reclaimable, want %d", usage.Reclaimable, want)
	}
	want := api.UsageItem{Kind: "image", Name: "used", Shared: 1000, UsedBy: []string{"web"}}
	if diff := cmp.Diff(want, items["image used"]); diff != "" {
		t.Error(diff)
	}
	if idle := items["image idle"]; idle.Exclusive != 500 || idle.Shared != 0 || idle.Reclaimable != 500 {
		t.Errorf("an unused image: %+v", idle)
	}
	if vm := items["vm web"]; vm.Exclusive < 1<<20 || vm.Shared != 1100 {
		t.Errorf("a VM: %+v", vm)
	}
	if cache := items["cache oci"]; cache.Exclusive < 1<<18 {
		t.Errorf("the cache: %+v", cache)
	}
}
