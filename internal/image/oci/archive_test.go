package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// archiveFile writes an archive with the entries.
func archiveFile(t *testing.T, entries ...any) string {
	t.Helper()
	return lt.WriteFile(t, lt.Tar(t, entries...))
}

// layoutEntries returns the files of an OCI layout.
func layoutEntries(t *testing.T, index v1.ImageIndex) []any {
	t.Helper()
	dir := t.TempDir()
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	var entries []any
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		entries = append(entries, lt.Reg(strings.TrimPrefix(path, dir+"/"), string(data)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// treeOf flattens an image and lists its tree.
func treeOf(t *testing.T, img Image) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := flatten.Layers(context.Background(), img.Layers, tar.NewWriter(&b), flatten.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	return lt.List(t, &b)
}

const savedTree = `d 755 0:0 ./
d 755 0:0 etc/
f 644 0:0 etc/new "new"
`

func savedImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	return imageOf(t, platform, lt.Tar(t, lt.Dir("etc", 0o755), lt.Reg("etc/old", "old")),
		lt.Tar(t, lt.Reg("etc/new", "new"), lt.Whiteout("etc/old")))
}

// dockerFiles are the files of an archive in docker's format before version 25,
// whose second layer is a link to where the first image that had it kept it.
func dockerFiles(t *testing.T) (files []any, config string) {
	t.Helper()
	one := lt.Tar(t, lt.Dir("etc", 0o755), lt.Reg("etc/old", "old"))
	two := lt.Tar(t, lt.Reg("etc/new", "new"), lt.Whiteout("etc/old"))
	config = fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"User":"me"},"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`,
		lt.Digest(one), lt.Digest(two))
	return []any{
		lt.Dir("one", 0o755), lt.Reg("one/layer.tar", string(one)), lt.Reg("three/layer.tar", string(two)),
		lt.Dir("two", 0o755), lt.Symlink("two/layer.tar", "../three/layer.tar"), lt.Reg("config.json", config),
	}, config
}

const dockerManifest = `[{"Config":"config.json","RepoTags":["app:1"],"Layers":["one/layer.tar","two/layer.tar"]}]`

func TestLoad(t *testing.T) {
	img := savedImage(t, "linux/amd64")
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	var docker bytes.Buffer
	if err := tarball.Write(tag, img, &docker); err != nil {
		t.Fatal(err)
	}
	named := v1.Descriptor{Annotations: map[string]string{"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}}
	single := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: named})
	multi := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, "linux/arm64", lt.Tar(t, lt.Reg("arm", ""))), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: multi, Descriptor: named})
	old, _ := dockerFiles(t)
	old = append(old, lt.Reg("./manifest.json", dockerManifest))
	// Since version 25, docker writes both formats.
	both := append(layoutEntries(t, single), lt.Reg("manifest.json", dockerManifest))
	for name, data := range map[string][]byte{
		"docker":            docker.Bytes(),
		"docker before 25":  lt.Tar(t, old...),
		"docker from 25 on": lt.Tar(t, both...),
		"layout":            lt.Tar(t, layoutEntries(t, single)...),
		"several platforms": lt.Tar(t, layoutEntries(t, nested)...),
		"gzip":              lt.Gzip(t, lt.Tar(t, old...)),
		"zstd":              lt.Zstd(t, lt.Tar(t, both...)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(context.Background(), lt.WriteFile(t, data), LoadOptions{Dir: t.TempDir(), Platform: "linux/amd64"})
			if err != nil {
				t.Fatal(err)
			}
			if got.Ref != "index.docker.io/library/app:1" || got.Platform != "linux/amd64" || !strings.HasPrefix(got.Digest, "sha256:") {
				t.Errorf("image = %s %s %s", got.Ref, got.Platform, got.Digest)
			}
			if diff := cmp.Diff(savedTree, treeOf(t, got)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

// A layout is read where it is. What is there under a mere tag has no name.
func TestLoadDirectory(t *testing.T) {
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add:        savedImage(t, "linux/amd64"),
		Descriptor: v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": "1.0"}},
	})
	dir := t.TempDir()
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), dir, LoadOptions{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ref != "" {
		t.Errorf("the image is called %s", got.Ref)
	}
	if diff := cmp.Diff(savedTree, treeOf(t, got)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	for damage, want := range map[string]func(t *testing.T, blob string) error{
		"it lacks the file": func(_ *testing.T, blob string) error { return os.Remove(blob) },
		"no regular file": func(_ *testing.T, blob string) error {
			return errors.Join(os.Remove(blob), syscall.Mkfifo(blob, 0o600))
		},
		"path escapes": func(t *testing.T, blob string) error {
			out := t.TempDir()
			dir := filepath.Dir(blob)
			return errors.Join(os.RemoveAll(dir), os.Symlink(out, dir))
		},
	} {
		copied := t.TempDir()
		if _, err := layout.Write(copied, index); err != nil {
			t.Fatal(err)
		}
		_, hex, _ := strings.Cut(got.Digest, ":")
		if err := want(t, filepath.Join(copied, "blobs/sha256", hex)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(t.Context(), copied, LoadOptions{Platform: "linux/amd64"}); err == nil || !strings.Contains(err.Error(), damage) {
			t.Errorf("got %v, want an error with %q", err, damage)
		}
	}
	if _, err := Load(t.Context(), t.TempDir(), LoadOptions{}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an empty directory: %v", err)
	}
}

// docker save of an image with two tags lists it twice.
func TestLoadOneImageOfTwoNames(t *testing.T) {
	img := savedImage(t, "linux/amd64")
	named := func(name string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Annotations: map[string]string{"io.containerd.image.name": name}}}
	}
	index := mutate.AppendManifests(empty.Index, named("docker.io/library/app:1"), named("docker.io/library/app:latest"))
	got, err := Load(t.Context(), archiveFile(t, layoutEntries(t, index)...), LoadOptions{Platform: "linux/amd64"})
	if err != nil || got.Ref != "index.docker.io/library/app:1" {
		t.Errorf("got %s, %v", got.Ref, err)
	}
}

func TestIsArchive(t *testing.T) {
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: savedImage(t, "linux/amd64")})
	layoutTar := lt.Tar(t, layoutEntries(t, index)...)
	bundle := lt.Tar(t, lt.Reg("manifest.json", `{"name":"x"}`), lt.Reg("rootfs.ext4", ""))
	docker := lt.Tar(t, lt.Reg("manifest.json", dockerManifest))
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"layout":      {layoutTar, true},
		"gzip":        {lt.Gzip(t, layoutTar), true},
		"zstd":        {lt.Zstd(t, layoutTar), true},
		"docker":      {docker, true},
		"zstd docker": {lt.Zstd(t, docker), true},
		"bundle":      {lt.Zstd(t, bundle), false},
		"empty":       {nil, false},
		"text":        {[]byte("no bundle"), false},
		"cut":         {lt.Gzip(t, layoutTar)[:20], false},
	} {
		if got := IsArchive(lt.WriteFile(t, c.data)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if IsArchive(pipe) { // nor does it wait for somebody to write
		t.Error("a pipe is no archive")
	}
	if _, err := Load(t.Context(), pipe, LoadOptions{}); err == nil {
		t.Error("a pipe was read")
	}
	if !IsArchive(t.TempDir()) || IsArchive(filepath.Join(t.TempDir(), "none")) {
		t.Error("directories are archives, what isn't there is none")
	}
}

func TestLoadConfig(t *testing.T) {
	files, config := dockerFiles(t)
	img, err := Load(context.Background(), archiveFile(t, append(files, lt.Reg("manifest.json", dockerManifest))...), LoadOptions{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Env: []string{"A=b"}, User: "me"}
	if diff := cmp.Diff(want, img.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if img.Digest != lt.Digest([]byte(config)) {
		t.Errorf("digest = %s, want that of the configuration", img.Digest)
	}
}

func TestHostileArchives(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, config := dockerFiles(t)
	docker := func(manifest string, more ...any) []byte {
		return lt.Tar(t, append(append(files, lt.Reg("manifest.json", manifest)), more...)...)
	}
	good := docker(dockerManifest)
	single := layoutEntries(t, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: savedImage(t, "linux/amd64")}))
	double := layoutEntries(t, mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: savedImage(t, "linux/amd64")}, mutate.IndexAddendum{Add: savedImage(t, "linux/arm64")}))
	// damagedLayout changes the content of blobs without changing its length.
	damagedLayout := func(marker string) []byte {
		var changed []any
		for _, e := range single {
			f := *e.(*lt.File)
			if strings.HasPrefix(f.Name, "blobs/") {
				f.Content = strings.Replace(f.Content, marker, strings.ToUpper(marker), 1)
			}
			changed = append(changed, &f)
		}
		return lt.Tar(t, changed...)
	}
	loop := lt.Symlink("loop", "loop")
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "lacks the file"},
		{"bzip2", []byte("BZh91AY&SY"), "neither gzip nor zstd"},
		{"cut gzip", lt.Gzip(t, good)[:1000], "damaged"},
		{"no tar", []byte(strings.Repeat("no tar ", 1000)), "damaged"},
		{"no image", lt.Tar(t, lt.Reg("etc/passwd", "")), `lacks the file "manifest.json"`},
		{"cut", good[:len(good)/2], "damaged"},
		{"no manifest", docker(""), "manifest.json can't be read"},
		{"no images", docker("[]"), "holds 0 images"},
		{"several images", docker(`[{"Config":"a"},{"Config":"b"}]`), "holds 2 images"},
		{"several in a layout", lt.Tar(t, double...), "holds 2 images"},
		{"missing layer", docker(strings.Replace(dockerManifest, "one/layer.tar", "none/layer.tar", 1)), `lacks the file "none/layer.tar"`},
		{"missing configuration", docker(strings.Replace(dockerManifest, "config.json", "none.json", 1)), `lacks the file "none.json"`},
		{"a layer less", docker(strings.Replace(dockerManifest, `,"two/layer.tar"`, "", 1)), "its manifest has 1 layers"},
		{"a path of the host", docker(strings.Replace(dockerManifest, "config.json", secret, 1)), "lacks the file"},
		{"a path that leads out", docker(strings.Replace(dockerManifest, "config.json", strings.Repeat("../", 20)+secret[1:], 1)), "lacks the file"},
		{"a link that leads out", docker(strings.Replace(dockerManifest, "config.json", "link", 1), lt.Symlink("link", secret)), "lacks the file"},
		{"links in a circle", docker(strings.Replace(dockerManifest, "config.json", "loop", 1), loop), "lacks the file"},
		{"a directory as layer", docker(strings.Replace(dockerManifest, "one/layer.tar", "one", 1)), `lacks the file "one"`},
		{"a strange configuration", docker(dockerManifest, lt.Reg("config.json", "<html>")), "configuration"},
		{"a huge manifest", docker(strings.Repeat(" ", maxManifest+1)), "bytes"},
		{"a changed configuration", damagedLayout("amd64"), "what should be sha256:"},
		{"another platform", docker(dockerManifest, lt.Reg("config.json", strings.Replace(config, "amd64", "riscv64", 1))), "not available for linux/amd64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Load(context.Background(), lt.WriteFile(t, c.data), LoadOptions{Dir: dir, Platform: "linux/amd64"})
			if !errors.Is(err, api.ErrInvalid) && !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

// A few KiB may unpack to any number of zeros, which would fill the disk.
func TestArchiveBomb(t *testing.T) {
	dir := t.TempDir()
	const most = 1 << 20
	for name, data := range map[string][]byte{"gzip": lt.Gzip(t, make([]byte, most+1)), "zstd": lt.Zstd(t, make([]byte, 64*most))} {
		_, err := Load(t.Context(), lt.WriteFile(t, data), LoadOptions{Dir: dir, MaxBytes: most})
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "more than 1 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Layers are checked when they are read.
func TestArchiveWithAnotherLayer(t *testing.T) {
	files, _ := dockerFiles(t)
	files = append(files, lt.Reg("manifest.json", dockerManifest), lt.Reg("one/layer.tar", string(lt.Tar(t, lt.Reg("etc/evil", "x")))))
	path := archiveFile(t, files...)
	img, err := Load(context.Background(), path, LoadOptions{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = flatten.Layers(context.Background(), img.Layers, tar.NewWriter(&bytes.Buffer{}), flatten.Options{TempDir: t.TempDir()})
	if !errors.Is(err, api.ErrInvalid) || !strings.HasPrefix(err.Error(), "layer 1 of 2 (sha256:") {
		t.Errorf("error = %v, want one about layer 1", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the user's archive is gone: %v", err)
	}
}
