package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// nameAnnotations are what docker and podman keep the name of a saved image
// under, the full form first.
var nameAnnotations = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

// fromLayout reads an OCI layout,
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
func (a *archive) fromLayout() (Image, error) {
	index, err := a.read("index.json", maxManifest)
	if err != nil {
		return Image{}, err
	}
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return Image{}, a.invalid("its index.json can't be read: %v", err)
	}
	if n := len(parsed.Manifests); n != 1 && severalImages(parsed.Manifests) {
		return Image{}, a.several(n)
	}
	ref := ""
	var platform *v1.Platform
	for range maxIndexDepth {
		desc, err := a.choose(index)
		if err != nil {
			return Image{}, err
		}
		if ref == "" {
			ref = savedName(desc)
		}
		if desc.Platform != nil {
			platform = desc.Platform
		}
		raw, err := a.blob(desc, maxManifest)
		if err != nil {
			return Image{}, err
		}
		if desc.MediaType.IsIndex() {
			index = raw
			continue
		}
		m, err := parseManifest(raw)
		if err != nil {
			return Image{}, a.invalid("%s", err)
		}
		return a.fromManifest(ref, &manifest{m, desc.Digest, platform})
	}
	return Image{}, a.invalid("it is an index of indexes more than %d deep", maxIndexDepth)
}

func (a *archive) fromManifest(ref string, m *manifest) (Image, error) {
	config, err := a.blob(m.Config, maxConfig)
	if err != nil {
		return Image{}, err
	}
	var layers []section
	for _, desc := range m.Layers {
		s, err := a.find(blobName(desc))
		if err != nil {
			return Image{}, err
		}
		if s.size != desc.Size {
			return Image{}, a.invalid("its layer %s has %d bytes instead of %d", desc.Digest, s.size, desc.Size)
		}
		layers = append(layers, s)
	}
	return a.image(ref, m.digest.String(), config, layers, m.platform)
}

// blob returns a small blob whose digest is right.
func (a *archive) blob(desc v1.Descriptor, limit int64) ([]byte, error) {
	data, err := a.read(blobName(desc), limit)
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != desc.Digest.String() {
		return nil, a.invalid("what should be %s in it is %s", desc.Digest, got)
	}
	return data, nil
}

func blobName(desc v1.Descriptor) string {
	return "blobs/" + desc.Digest.Algorithm + "/" + desc.Digest.Hex
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// savedName returns the name that an image was saved under, or "". Many tools
// write a mere tag there.
func savedName(desc v1.Descriptor) string {
	for _, key := range nameAnnotations {
		if name := desc.Annotations[key]; strings.ContainsAny(name, "/:@") {
			return name
		}
	}
	return ""
}

// severalImages reports whether an index lists several images rather than one
// for several platforms, or one by several names.
func severalImages(all []v1.Descriptor) bool {
	for _, desc := range all {
		same := desc.Platform != nil && savedName(desc) == savedName(all[0])
		if !same && desc.Digest != all[0].Digest {
			return true
		}
	}
	return len(all) == 0
}
