package oci

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"banger/internal/api"
	"banger/internal/weburl"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxIndexDepth bounds indexes that list indexes.
const maxIndexDepth = 3

// maxLayers bounds the layers of an image; docker's limit is 127.
const maxLayers = 512

// wanted is what image of a name is looked for.
type wanted struct {
	name     string // for messages
	platform v1.Platform
}

// manifest is the manifest of an image for one platform.
type manifest struct {
	*v1.Manifest
	digest   v1.Hash
	platform *v1.Platform // as the index says; nil if there was none
}

// resolve finds the manifest of the wanted platform.
func (p *puller) resolve(ctx context.Context, reg *registry) (manifest, error) {
	ref := p.ref
	var platform *v1.Platform
	for range maxIndexDepth {
		desc, err := retry(ctx, p.retry, p.log, func() (*remote.Descriptor, error) {
			desc, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(reg.transport))
			return desc, weburl.Error(err)
		})
		if err != nil {
			return manifest{}, err
		}
		switch {
		case desc.MediaType.IsIndex():
			child, err := p.choose(desc.Manifest)
			if err != nil {
				return manifest{}, err
			}
			platform = child.Platform
			ref = p.ref.Context().Digest(child.Digest.String())
		case desc.MediaType.IsImage():
			m, err := parseManifest(desc.Manifest)
			if err != nil {
				return manifest{}, p.invalid("%s", err)
			}
			return manifest{m, desc.Digest, platform}, nil
		case desc.MediaType == types.DockerManifestSchema1, desc.MediaType == types.DockerManifestSchema1Signed:
			return manifest{}, p.invalid("it has the manifest format of before 2016 (schema 1)")
		default:
			return manifest{}, p.invalid("the registry sent something of the type %q", desc.MediaType)
		}
	}
	return manifest{}, p.invalid("it is an index of indexes more than %d deep", maxIndexDepth)
}

// choose picks the manifest of the wanted platform from an index.
func (w wanted) choose(index []byte) (v1.Descriptor, error) {
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(index))
	if err != nil {
		return v1.Descriptor{}, w.invalid("its index can't be read: %v", err)
	}
	var available []string
	for _, m := range parsed.Manifests {
		if !m.MediaType.IsImage() && !m.MediaType.IsIndex() {
			continue
		}
		if m.Platform == nil || m.Platform.Satisfies(w.platform) {
			return m, nil
		}
		// Build tools list their attestations as "unknown/unknown".
		if s := m.Platform.String(); !strings.HasPrefix(s, "unknown/") && !slices.Contains(available, s) {
			available = append(available, s)
		}
	}
	slices.Sort(available)
	return v1.Descriptor{}, api.Errorf(api.CodeNotFound, "%s is not available for %s", w.name, w.platform).
		WithHint("it is available for: %s", strings.Join(available, ", "))
}

func parseManifest(raw []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its manifest can't be read: %w", err)
	}
	switch m.Config.MediaType {
	case types.OCIConfigJSON, types.DockerConfigJSON:
	default:
		return nil, fmt.Errorf("it is no container image but has the type %q", m.Config.MediaType)
	}
	for i, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if desc.Digest.Algorithm != "sha256" || len(desc.Digest.Hex) != 64 || desc.Size < 0 {
			return nil, fmt.Errorf("blob %d has the digest %q and %d bytes", i, desc.Digest, desc.Size)
		}
		if i > 0 && !isLayer(desc.MediaType) {
			return nil, fmt.Errorf("layer %d has the type %q", i, desc.MediaType)
		}
	}
	return m, nil
}

// isLayer reports whether blobs of a type are tars of files. Some tools name
// types of their own after the standard ones, with a known ending.
func isLayer(t types.MediaType) bool {
	if t.IsLayer() {
		return true
	}
	s := string(t)
	for _, suffix := range []string{".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd"} {
		if strings.HasSuffix(s, suffix) {
			return true
		}
	}
	return false
}

// checkConfig checks that the configuration belongs to the manifest, which has
// so many layers and is listed for a platform or none, and that
// the image can run here.
func (w wanted) checkConfig(config *v1.ConfigFile, layers int, listed *v1.Platform) error {
	if len(config.RootFS.DiffIDs) != layers {
		return w.invalid("its manifest has %d layers, its configuration %d", layers, len(config.RootFS.DiffIDs))
	}
	if layers == 0 || layers > maxLayers {
		return w.invalid("it has %d layers; from 1 to %d are allowed", layers, maxLayers)
	}
	got := platformOf(config, listed)
	if got.OS != w.platform.OS || got.Architecture != w.platform.Architecture {
		return api.Errorf(api.CodeNotFound, "%s is not available for %s", w.name, w.platform).
			WithHint("it is available for: %s", got)
	}
	return nil
}

// platformOf returns what an image is for. Some configurations leave it out.
func platformOf(config *v1.ConfigFile, listed *v1.Platform) v1.Platform {
	var got v1.Platform
	if listed != nil {
		got = *listed
	}
	if config.OS != "" {
		got.OS = config.OS
	}
	if config.Architecture != "" {
		got.Architecture = config.Architecture
	}
	if config.Variant != "" {
		got.Variant = config.Variant
	}
	if got.OS == "" {
		got.OS = "linux"
	}
	if got.Architecture == "" {
		got.Architecture = runtime.GOARCH
	}
	return v1.Platform{OS: got.OS, Architecture: got.Architecture, Variant: got.Variant}
}

// parsePlatform reads "os/arch" or "os/arch/variant".
func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	parsed, err := v1.ParsePlatform(s)
	if err != nil || parsed.OS != "linux" || parsed.Architecture == "" || parsed.OSVersion != "" {
		return v1.Platform{}, api.Errorf(api.CodeInvalid, "%q is not a platform that banger can run", s).
			WithHint("platforms look like linux/amd64, linux/arm64 or linux/arm/v7")
	}
	return *parsed, nil
}

// invalid is the error of an image that can't be used.
func (w wanted) invalid(format string, args ...any) error {
	return api.Errorf(api.CodeInvalid, "%s can't be used: %s", w.name, fmt.Sprintf(format, args...))
}
