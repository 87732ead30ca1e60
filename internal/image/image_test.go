package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/guard"
	"banger/internal/image/ext4"
	"banger/internal/paths"

	"github.com/google/go-cmp/cmp"
)

// fakeGuests are VMs by name with the image that each uses.
type fakeGuests struct {
	images  map[string]string
	archive func(io.Writer) error
}

func (f *fakeGuests) Users(_ context.Context, image string) ([]string, error) {
	var names []string
	for vm, of := range f.images {
		if of == image {
			names = append(names, vm)
		}
	}
	return names, nil
}

func (f *fakeGuests) ImageOf(_ context.Context, vm string) (string, error) {
	if image, ok := f.images[vm]; ok {
		return image, nil
	}
	return "", api.Errorf(api.CodeNotFound, "there is no VM %q", vm)
}

func (f *fakeGuests) Archive(_ context.Context, _ string, w io.Writer, _ api.ProgressFunc) error {
	return f.archive(w)
}

func (f *fakeGuests) BuildDockerfile(_ context.Context, _ api.BuildImage, w io.Writer, _ api.ProgressFunc) error {
	return f.archive(w)
}

// shop is a store with what it needs around it.
type shop struct {
	*Store
	layout paths.Layout
	offer  catalog.Catalog
	guests *fakeGuests

	mu      sync.Mutex // of what pulls at the same time change
	kernels []string   // that were asked for
}

func newShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{
		layout: paths.Layout{Data: filepath.Join(dir, "share"), Cache: filepath.Join(dir, "cache")},
		offer:  catalog.Catalog{Images: []catalog.Image{{Name: "offered", Description: "An image.", Arch: []string{arch()}, Kernel: "k"}}},
		guests: &fakeGuests{images: map[string]string{}},
	}
	for _, made := range []string{s.layout.Data, s.layout.Cache} {
		if err := os.MkdirAll(made, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Store = New(Config{
		Layout:  s.layout,
		Catalog: func(context.Context) catalog.Catalog { return s.offer },
		Default: "offered",
		Kernel: func(_ context.Context, name string, _ api.ProgressFunc) error {
			s.mu.Lock()
			s.kernels = append(s.kernels, name)
			s.mu.Unlock()
			if name == "unknown" {
				return api.Errorf(api.CodeNotFound, "there is no kernel %q", name)
			}
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	s.SetGuests(s.guests)
	return s
}

// wantNoLitter fails if anything but the named images is in the store.
func (s *shop) wantNoLitter(t *testing.T, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(s.layout.ImagesDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(append([]string{}, names...), got); diff != "" {
		t.Errorf("in the store: %s", diff)
	}
	for _, dir := range []string{s.layout.Cache, s.layout.DownloadsDir()} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), exportPrefix) || strings.HasPrefix(e.Name(), archivePrefix) || dir == s.layout.DownloadsDir() {
				t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
			}
		}
	}
}

// makeRootfs makes an ext4 file with one file in it.
func makeRootfs(t *testing.T, path, content string) {
	t.Helper()
	err := ext4.Write(t.Context(), strings.NewReader(tarOf(t, map[string]string{"hello": content})), path, ext4.Options{})
	if err != nil {
		t.Fatal(err)
	}
}

// catFile reads a file of an ext4 image.
func catFile(t *testing.T, rootfs, name string) string {
	t.Helper()
	debugfs, err := exec.LookPath("debugfs")
	if err != nil {
		debugfs = "/usr/sbin/debugfs"
	}
	out, err := exec.CommandContext(t.Context(), debugfs, "-R", "cat "+name, rootfs).Output()
	if err != nil {
		t.Fatalf("debugfs: %v", err)
	}
	return string(out)
}

// register makes an image of the user's file and returns the file's path.
func (s *shop) register(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs.ext4")
	makeRootfs(t, path, name)
	if _, err := s.Register(t.Context(), api.RegisterImage{Name: name, Rootfs: path, Kernel: "k"}); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantCode(t *testing.T, err error, code api.Code, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want %s", code)
		return
	}
	e := api.AsError(err)
	if e.Code != code {
		t.Errorf("got %s (%v), want %s", e.Code, err, code)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg+" "+e.Hint, w) {
			t.Errorf("%q does not say %q", e.Msg+" ("+e.Hint+")", w)
		}
	}
}

func TestRegister(t *testing.T) {
	s := newShop(t)
	path := s.register(t, "mine")
	img, err := s.Get(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if img.Rootfs != path || img.Origin != api.OriginRegistered || img.Kernel != "k" || img.SizeBytes == 0 {
		t.Errorf("got %+v", img)
	}
	used, release, err := s.Use(t.Context(), "mine", nil)
	if err != nil || used.Rootfs != path || len(used.RealDirs) == 0 {
		t.Fatalf("Use: %+v, %v", used, err)
	}
	wantCode(t, s.Delete(t.Context(), "mine"), api.CodeConflict)
	release()
	if err := s.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's file is gone: %v", err)
	}
	s.wantNoLitter(t)
}

func TestRegisterRefuses(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	text, good := filepath.Join(dir, "text"), filepath.Join(dir, "good")
	if err := os.WriteFile(text, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	makeRootfs(t, good, "")
	s.register(t, "taken")
	for _, c := range []struct {
		req  api.RegisterImage
		code api.Code
	}{
		{api.RegisterImage{Name: "a", Rootfs: text}, api.CodeInvalid},
		{api.RegisterImage{Name: "a", Rootfs: dir}, api.CodeInvalid},
		{api.RegisterImage{Name: "a", Rootfs: filepath.Join(dir, "absent")}, api.CodeInvalid},
		{api.RegisterImage{Name: "a", Rootfs: "relative"}, api.CodeInvalid},
		{api.RegisterImage{Name: "../a", Rootfs: good}, api.CodeInvalid},
		{api.RegisterImage{Name: "a", Rootfs: good, Kernel: "unknown"}, api.CodeNotFound},
		{api.RegisterImage{Name: "taken", Rootfs: good}, api.CodeExists},
	} {
		_, err := s.Register(t.Context(), c.req)
		wantCode(t, err, c.code)
	}
	s.wantNoLitter(t, "taken")
}

// A registered file that went or changed is noticed before a VM boots from it.
func TestRegisteredFileChanged(t *testing.T) {
	s := newShop(t)
	path := s.register(t, "mine")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Use(t.Context(), "mine", nil)
	wantCode(t, err, api.CodeConflict, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Use(t.Context(), "mine", nil)
	wantCode(t, err, api.CodeNotFound, path)
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("List: %v, %v", all, err)
	}
}

func TestUnknown(t *testing.T) {
	s := newShop(t)
	for _, name := range []string{"nope", "", ".."} {
		_, err := s.Get(t.Context(), name)
		wantCode(t, err, api.CodeNotFound, "offered")
		_, _, err = s.Use(t.Context(), name, nil)
		wantCode(t, err, api.CodeNotFound, "offered")
		wantCode(t, s.Delete(t.Context(), name), api.CodeNotFound)
		_, err = s.Pull(t.Context(), api.PullImage{Ref: name}, nil)
		wantCode(t, err, api.CodeNotFound, "offered")
	}
	_, err := s.Get(t.Context(), "offered")
	wantCode(t, err, api.CodeNotFound, "banger image pull offered")
	s.wantNoLitter(t)
}

func TestDeleteInUse(t *testing.T) {
	s := newShop(t)
	s.register(t, "mine")
	s.guests.images["web"] = "mine"
	wantCode(t, s.Delete(t.Context(), "mine"), api.CodeConflict, "VM web", "banger vm delete")
	if img, err := s.Get(t.Context(), "mine"); err != nil || len(img.UsedBy) != 1 {
		t.Errorf("got %+v, %v", img, err)
	}
	delete(s.guests.images, "web")
	if err := s.Delete(t.Context(), "mine"); err != nil {
		t.Error(err)
	}
}

func TestDamagedManifest(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(s.layout.ImagesDir(), "mine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"name": "mi`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "mine")
	wantCode(t, err, api.CodeInternal, dir)
	s.register(t, "other")
	s.guests.images["web"] = "mine"
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != "mine" || all[1].Name != "other" {
		t.Fatalf("listed: %+v, %v", all, err)
	}
	if !strings.Contains(all[0].Damaged, "manifest") || len(all[0].UsedBy) != 1 || all[1].Damaged != "" {
		t.Errorf("listed: %+v", all)
	}
	delete(s.guests.images, "web")
	if err := s.Delete(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "mine"); err != nil {
		t.Errorf("it can't be deleted: %v", err)
	}
	s.wantNoLitter(t)
}

// Manifests of before there were origins are recipes' ones.
func TestOldManifest(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(s.layout.ImagesDir(), "offered")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	makeRootfs(t, filepath.Join(dir, rootfsFile), "old")
	old := map[string]any{"name": "offered", "arch": arch(), "kernel": "k", "real_dirs": []string{"/root"}, "size_bytes": 42}
	data, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	img, release, err := s.Use(t.Context(), "offered", nil)
	if err != nil || img.Origin != api.OriginRecipe {
		t.Fatalf("got %+v, %v", img, err)
	}
	release()
}

// What follows the end of a VM's files isn't read for ever, and no image is made.
func TestArchiveWithoutEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rootfs")
	err := writeArchive(t.Context(), func(w io.Writer) error {
		if err := tar.NewWriter(w).Close(); err != nil {
			return err
		}
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	}, path)
	if !errors.Is(err, api.ErrGuest) {
		t.Errorf("got %v", err)
	}
}

func TestArchiveThatPanics(t *testing.T) {
	err := writeArchive(t.Context(), func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 512)); err != nil {
			return err
		}
		panic("a bug")
	}, filepath.Join(t.TempDir(), "rootfs"))
	var e *guard.PanicError
	if !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}
