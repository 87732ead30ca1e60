package client_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon/daemontest"
)

func pull(ctx context.Context, t *testing.T, c *client.Client, ref string) api.Image {
	t.Helper()
	img, err := client.Stream(ctx, c, api.PullImageRoute, api.PullImage{Ref: ref}, nil)
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return img
}

func TestImageCalls(t *testing.T) {
	ctx, c, _ := start(t)
	images, err := client.Call(ctx, c, api.ListImages, api.None{})
	if err != nil || images == nil || len(images) != 0 {
		t.Fatalf("list = %v, %v; want an empty list", images, err)
	}
	pull(ctx, t, c, "debian-minimal")
	app := pull(ctx, t, c, "registry.example/app:1")
	if app.Name != "app" || app.Config == nil || app.Config.WorkingDir != "/srv" {
		t.Errorf("pulled %+v", app)
	}
	got, err := client.Call(ctx, c, api.GetImage, api.None{}, "app")
	if diff := cmp.Diff(app, got); err != nil || diff != "" {
		t.Errorf("get: %v (-pulled +got):\n%s", err, diff)
	}
	_, err = client.Stream(ctx, c, api.PullImageRoute, api.PullImage{Ref: "nope"}, nil)
	wantCode(t, err, api.CodeNotFound, `no image "nope"`)

	rootfs := filepath.Join(t.TempDir(), "rootfs.ext4")
	if err := os.WriteFile(rootfs, []byte("ext4"), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := client.Call(ctx, c, api.RegisterImageRoute, api.RegisterImage{Name: "own", Rootfs: rootfs})
	if err != nil || own.Rootfs != rootfs || own.Origin != api.OriginRegistered {
		t.Errorf("register = %+v, %v", own, err)
	}
	_, err = client.Call(ctx, c, api.RegisterImageRoute, api.RegisterImage{Name: "own", Rootfs: rootfs})
	wantCode(t, err, api.CodeExists, "own")

	vm, err := client.Stream(ctx, c, api.CreateVMRoute, api.CreateVM{Name: "web", Image: "app"}, nil)
	if diff := cmp.Diff(app.Config, vm.Config); err != nil || diff != "" {
		t.Errorf("the VM's configuration: %v (-image +VM):\n%s", err, diff)
	}
	if _, err := client.Stream(ctx, c, api.CommitImageRoute, api.CommitImage{VM: "web", Name: "saved"}, nil); err != nil {
		t.Error(err)
	}
	_, err = client.Call(ctx, c, api.DeleteImageRoute, api.None{}, "app")
	wantCode(t, err, api.CodeConflict, "used by vm web")

	pruned, err := client.Call(ctx, c, api.PruneImagesRoute, api.Prune{})
	want := []api.PrunedItem{{Kind: "image", Name: "debian-minimal", Bytes: 256 << 20}, {Kind: "cache", Name: "oci", Bytes: 3 << 20}}
	if diff := cmp.Diff(want, pruned.Removed); err != nil || diff != "" {
		t.Errorf("prune: %v (-want +got):\n%s", err, diff)
	}
	if pruned, err = client.Call(ctx, c, api.PruneImagesRoute, api.Prune{}); err != nil || pruned.Removed == nil || len(pruned.Removed) != 0 {
		t.Errorf("second prune = %+v, %v; want an empty list", pruned, err)
	}
}

func TestKernelCalls(t *testing.T) {
	ctx, c, _ := start(t)
	pull(ctx, t, c, "debian-minimal") // brings its kernel
	_, err := client.Call(ctx, c, api.DeleteKernelRoute, api.None{}, "generic-6.12")
	wantCode(t, err, api.CodeConflict, "used by image debian-minimal")
	if _, err := client.Stream(ctx, c, api.PullKernelRoute, api.PullKernel{Ref: "generic-6.1", Name: "old"}, nil); err != nil {
		t.Fatal(err)
	}
	k, err := client.Call(ctx, c, api.GetKernel, api.None{}, "old")
	if err != nil || k.Origin != api.OriginRecipe || k.UsedBy == nil {
		t.Errorf("kernel = %+v, %v", k, err)
	}
	out := filepath.Join(t.TempDir(), "old.tar.zst")
	written, err := client.Stream(ctx, c, api.ExportKernelRoute, api.ExportImage{Path: out}, nil, "old")
	if info, statErr := os.Stat(out); err != nil || statErr != nil || info.Size() != written.Bytes {
		t.Errorf("export = %+v, %v, %v", written, err, statErr)
	}
	if _, err := client.Stream(ctx, c, api.PullKernelRoute, api.PullKernel{Ref: out, SHA256: written.SHA256}, nil); err != nil {
		t.Error(err)
	}
	_, err = client.Stream(ctx, c, api.PullKernelRoute, api.PullKernel{Ref: out, SHA256: "00"}, nil)
	wantCode(t, err, api.CodeInvalid, "instead of 00")
	usage, err := client.Call(ctx, c, api.GetUsage, api.None{})
	if err != nil || usage.Bytes != (256+2*100)<<20 || usage.Reclaimable != (256+100)<<20 {
		t.Errorf("usage = %+v, %v", usage, err)
	}
	if _, err := client.Call(ctx, c, api.DeleteKernelRoute, api.None{}, "old"); err != nil {
		t.Error(err)
	}
	entries, err := client.Call(ctx, c, api.ListCatalogKernels, api.None{})
	if err != nil || len(entries) != 2 || !entries[0].Here || entries[1].Here {
		t.Errorf("catalog = %+v, %v", entries, err)
	}
}

func TestCancelReachesThePull(t *testing.T) {
	ctx, c, d := start(t)
	ctx, cancel := context.WithCancel(ctx)
	_, err := client.Stream(ctx, c, api.PullImageRoute, api.PullImage{Ref: daemontest.NameHangs}, func(api.Progress) { cancel() })
	wantCode(t, err, api.CodeCancelled, "cancelled")
	waitFor(t, "the pull to be cancelled", func() bool { return d.images.Cancelled() == 1 })
}

// TestManyPhasesAtOnce: the ends of all phases of parallel work arrive, in
// order with the rest of their phase.
func TestManyPhasesAtOnce(t *testing.T) {
	ctx, c, d := start(t)
	d.images.Layers = 40
	var mu sync.Mutex
	seen := make(map[string][]api.Progress)
	_, err := client.Stream(ctx, c, api.PullImageRoute, api.PullImage{Ref: "registry.example/app"}, func(p api.Progress) {
		mu.Lock()
		defer mu.Unlock()
		seen[p.Phase] = append(seen[p.Phase], p)
	})
	if err != nil {
		t.Fatal(err)
	}
	layers := 0
	for phase, events := range seen {
		for i, p := range events {
			if p.Finished != (i == len(events)-1) {
				t.Errorf("%s: event %d of %d: finished = %v", phase, i+1, len(events), p.Finished)
			}
		}
		if len(phase) > 6 && phase[:6] == "layer-" {
			layers++
		}
	}
	if layers != d.images.Layers {
		t.Errorf("saw %d layers, want %d", layers, d.images.Layers)
	}
}
