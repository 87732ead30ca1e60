package oci

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestHostileManifests(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	manifest := func(config, layerType, layerDigest, size string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"` + config + `","digest":"` + digest + `","size":2},"layers":[{"mediaType":"` +
			layerType + `","digest":"` + layerDigest + `","size":` + size + `}]}`
	}
	config, layer := string(types.OCIConfigJSON), string(types.OCILayer)
	if _, err := parseManifest([]byte(manifest(config, layer, digest, "1"))); err != nil {
		t.Fatalf("good manifest: %v", err)
	}
	for name, bad := range map[string]string{
		"a path as digest":   manifest(config, layer, "sha256:"+strings.Repeat("../", 21)+"x", "1"),
		"another algorithm":  manifest(config, layer, "sha512:"+strings.Repeat("a", 128), "1"),
		"a short digest":     manifest(config, layer, "sha256:abc", "1"),
		"a negative size":    manifest(config, layer, digest, "-1"),
		"an encrypted layer": manifest(config, layer+"+encrypted", digest, "1"),
		"an attestation":     manifest(config, "application/vnd.in-toto+json", digest, "1"),
		"another artifact":   manifest("application/vnd.cncf.helm.config.v1+json", layer, digest, "1"),
		"no JSON":            "<html>",
	} {
		if _, err := parseManifest([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
