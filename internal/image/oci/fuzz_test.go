package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"
	"banger/internal/tartest"
)

// An archive of a few KiB may name one big layer as often as it likes.
func TestTooManyLayers(t *testing.T) {
	layer := lt.Tar(t, lt.Reg("f", ""))
	digests, names := strings.Repeat(fmt.Sprintf("%q,", lt.Digest(layer)), maxLayers+1), strings.Repeat(`"l",`, maxLayers+1)
	path := archiveFile(t, lt.Reg("l", string(layer)),
		lt.Reg("c", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[`+strings.TrimSuffix(digests, ",")+`]}}`),
		lt.Reg("manifest.json", `[{"Config":"c","Layers":[`+strings.TrimSuffix(names, ",")+`]}]`))
	_, err := Load(t.Context(), path, LoadOptions{Platform: "linux/amd64"})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "513 layers") {
		t.Errorf("got %v", err)
	}
}

// The names in an archive are kept in memory.
func TestLongNamesInArchive(t *testing.T) {
	long := strings.Repeat("n/", 100_000)
	for _, entry := range []any{lt.Reg(long+"f", ""), lt.Symlink("s", long)} {
		if _, err := Load(t.Context(), archiveFile(t, entry), LoadOptions{}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "path") {
			t.Errorf("got %v", err)
		}
	}
}

// aboutImage fails unless an error is about the image.
func aboutImage(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, api.ErrInvalid) && !errors.Is(err, api.ErrNotFound) {
		t.Fatalf("the error is not about the image: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	layer := tartest.Tar(tartest.Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0}))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":[%q]}}`, lt.Digest(layer))
	docker := lt.Tar(f, lt.Reg("l/layer.tar", string(layer)), lt.Symlink("m", "l/layer.tar"), lt.Reg("c.json", config),
		lt.Reg("manifest.json", `[{"Config":"c.json","RepoTags":["a:b"],"Layers":["m"]}]`))
	f.Add(docker)
	f.Add(lt.Gzip(f, docker))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		types.OCIConfigJSON, lt.Digest([]byte(config)), len(config), types.OCILayer, lt.Digest(layer), len(layer))
	blob := func(data string) *lt.File {
		return lt.Reg("blobs/sha256/"+strings.TrimPrefix(lt.Digest([]byte(data)), "sha256:"), data)
	}
	f.Add(lt.Tar(f, blob(string(layer)), blob(config), blob(manifest),
		lt.Reg("index.json", fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.containerd.image.name":"a:b"}}]}`,
			types.OCIManifestSchema1, lt.Digest([]byte(manifest)), len(manifest)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := lt.WriteFile(t, tartest.Checksums(data))
		IsArchive(path)
		img, err := Load(t.Context(), path, LoadOptions{Dir: t.TempDir(), Platform: "linux/amd64"})
		if err != nil {
			aboutImage(t, err)
			return
		}
		if len(img.Layers) == 0 || len(img.Layers) > maxLayers {
			t.Errorf("%d layers", len(img.Layers))
		}
		for _, l := range img.Layers {
			if info, err := os.Stat(l.Path); err != nil || l.Offset < 0 || l.Size < 0 || l.Offset+l.Size > info.Size() {
				t.Errorf("the layer %+v is not in its file, %v", l, err)
			}
		}
	})
}

var blobDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func FuzzManifest(f *testing.F) {
	digest := "sha256:" + strings.Repeat("a", 64)
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":1}]}`,
		types.OCIConfigJSON, digest, types.OCILayer, digest)))
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":9,"platform":{"os":"linux","architecture":"amd64"}},{"mediaType":%q,"digest":%q,"platform":{"os":"unknown"}}]}`,
		types.OCIManifestSchema1, digest, types.OCIImageIndex, digest)))
	f.Add([]byte(fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{"Env":["A=b"],"User":"me","ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digest)))
	f.Fuzz(func(t *testing.T, data []byte) {
		platform, err := parsePlatform("linux/amd64")
		if err != nil {
			t.Fatal(err)
		}
		w := wanted{"image", platform}
		if m, err := parseManifest(data); err == nil {
			for _, l := range append(m.Layers, m.Config) {
				if !blobDigest.MatchString(l.Digest.String()) || l.Size < 0 {
					t.Errorf("the blob %+v", l)
				}
			}
		}
		chosen, err := w.choose(data)
		if err != nil {
			aboutImage(t, err)
		}
		config, err := readConfig(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := w.checkConfig(config, 1, chosen.Platform); err != nil {
			aboutImage(t, err)
			return
		}
		newConfig(config)
	})
}

// hostName is what names of images on this host look like.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

func FuzzReference(f *testing.F) {
	f.Add("alpine")
	f.Add("docker.io/library/alpine:3.20")
	f.Add("localhost:5000/_a/.b__c@sha256:" + strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, ref string) {
		normal, err := NormalRef(ref)
		if name := DefaultName(ref); (name != "") != (err == nil) || err == nil && !hostName.MatchString(name) {
			t.Errorf("%q has the name %q, %v", ref, name, err)
		}
		if err != nil {
			aboutImage(t, err)
			return
		}
		if again, err := NormalRef(normal); err != nil || again != normal {
			t.Errorf("%q, in full %q, is in full %q, %v", ref, normal, again, err)
		}
	})
}
