package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/room"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Unpacking an archive stops where the disk would be full.
func TestArchiveLeavesRoom(t *testing.T) {
	s := newShop(t)
	s.cfg.Free = func(string) (int64, error) { return room.Reserve - 1, nil }
	path := filepath.Join(t.TempDir(), "x.tar")
	tag, err := name.NewTag("team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(path, tag, container(t, "too much")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".gz", lt.Gzip(t, data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), api.PullImage{Ref: path + ".gz"}, nil); !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "512 MiB") {
		t.Errorf("got %v", err)
	}
	s.wantNoLitter(t)
}

// What docker save and podman save wrote, or a layout, is taken like a bundle.
func TestPullArchive(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	tag, err := name.NewTag("team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := tarball.Write(tag, container(t, "from an archive"), &saved); err != nil {
		t.Fatal(err)
	}
	plain, packed, oci := filepath.Join(dir, "x.tar"), filepath.Join(dir, "x.tar.gz"), filepath.Join(dir, "some")
	if err := errors.Join(os.WriteFile(plain, saved.Bytes(), 0o600), os.WriteFile(packed, lt.Gzip(t, saved.Bytes()), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(oci, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: container(t, "from an archive")})); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, asked, want string }{
		{plain, "", "app-v1"}, {plain, "", "app-v1"}, {packed, "mine", "mine"}, {oci, "", "some"},
	} {
		img, err := s.Pull(t.Context(), api.PullImage{Ref: c.path, Name: c.asked}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if img.Name != c.want || img.Origin != api.OriginArchive || img.Source != c.path || img.Kernel != DefaultKernel || img.Config == nil {
			t.Errorf("got %+v", img)
		}
		if got := catFile(t, img.Rootfs, "/hello"); got != "from an archive" {
			t.Errorf("content %q", got)
		}
	}
	_, err = s.Pull(t.Context(), api.PullImage{Ref: packed}, nil)
	if !errors.Is(err, api.ErrExists) {
		t.Errorf("over the image of another file: %v", err)
	}
	_, err = s.Pull(t.Context(), api.PullImage{Ref: plain, Platform: "linux/riscv64"}, nil)
	if !errors.Is(err, api.ErrNotFound) {
		t.Errorf("for another platform: %v", err)
	}
	if pruned, err := s.Prune(t.Context(), api.Prune{}); err != nil || len(pruned.Removed) > 0 {
		t.Errorf("pruned %+v, %v: the file may be gone", pruned, err)
	}
	s.wantNoLitter(t, "app-v1", "mine", "some")
}
