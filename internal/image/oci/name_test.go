package oci

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestNames(t *testing.T) {
	valid := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct{ ref, normal, name string }{
		{"alpine", "index.docker.io/library/alpine:latest", "alpine"},
		{"alpine:3.20", "index.docker.io/library/alpine:3.20", "alpine-3.20"},
		{"docker.io/library/alpine:3.20", "index.docker.io/library/alpine:3.20", "alpine-3.20"},
		{"org/app", "index.docker.io/org/app:latest", "app"},
		{"ghcr.io/org/sub/app:v1_2", "ghcr.io/org/sub/app:v1_2", "app-v1_2"},
		{"127.0.0.1:5000/app", "127.0.0.1:5000/app:latest", "app"},
		{"quay.io/org/app" + digest, "quay.io/org/app" + digest, "app-0123456789ab"},
		{"quay.io/org/app:1" + digest, "quay.io/org/app" + digest, "app-0123456789ab"},
		{"quay.io/org/_odd-", "quay.io/org/_odd-:latest", "odd-"},
		{"quay.io/org/___:_x", "quay.io/org/___:_x", "image-_x"},
		{"quay.io/" + strings.Repeat("r", 99) + ":" + strings.Repeat("t", 99), "quay.io/" + strings.Repeat("r", 99) + ":" + strings.Repeat("t", 99),
			strings.Repeat("r", 32) + "-" + strings.Repeat("t", 30)},
	} {
		normal, err := NormalRef(c.ref)
		if err != nil || normal != c.normal {
			t.Errorf("NormalRef(%q) = %q, %v; want %q", c.ref, normal, err, c.normal)
		}
		name := DefaultName(c.ref)
		if name != c.name || !valid.MatchString(name) {
			t.Errorf("DefaultName(%q) = %q, want %q", c.ref, name, c.name)
		}
	}
	for _, bad := range []string{"", "UPPER", "a b", "../x", "x@sha256:1"} {
		if _, err := NormalRef(bad); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("NormalRef(%q): error = %v, want api.ErrInvalid", bad, err)
		}
		if name := DefaultName(bad); name != "" {
			t.Errorf("DefaultName(%q) = %q", bad, name)
		}
	}
}
