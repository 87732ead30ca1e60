package oci

import (
	"errors"
	"slices"
	"strings"

	"banger/internal/api"

	"github.com/google/go-containerregistry/pkg/name"
)

// maxHostName is how long names of images on this host may be.
const maxHostName = 63

// shortDigest is how many digits of a digest make a name.
const shortDigest = 12

func parseRef(ref string) (name.Reference, error) {
	parsed, err := name.ParseReference(ref)
	if err == nil && slices.ContainsFunc(strings.Split(parsed.Context().Name(), "/"), isDots) {
		err = errors.New("it is a path")
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%q is not the name of an image: %v", ref, err).
			WithHint("names look like alpine:3.20, docker.io/library/alpine:3.20 or ghcr.io/org/app@sha256:…")
	}
	return parsed, nil
}

// isDots reports whether a part of a name would mean a directory in a URL.
func isDots(part string) bool { return part == "." || part == ".." }

// NormalRef returns the full form of a reference, that all its spellings have
// in common: "index.docker.io/library/alpine:latest" for "alpine". It is the
// Ref of an Image.
func NormalRef(ref string) (string, error) {
	parsed, err := parseRef(ref)
	if err != nil {
		return "", err
	}
	return parsed.Name(), nil
}

// DefaultName returns the name that an image gets on this host unless the user
// chooses one: the last part of its repository with the tag, or with the start
// of the digest, except for the tag "latest". It has only the characters that
// such names may have, and is empty for what is no reference.
func DefaultName(ref string) string {
	parsed, err := parseRef(ref)
	if err != nil {
		return ""
	}
	repository := parsed.Context().RepositoryStr()
	base := repository[strings.LastIndexByte(repository, '/')+1:]
	suffix := ""
	switch parsed := parsed.(type) {
	case name.Digest:
		_, hex, _ := strings.Cut(parsed.DigestStr(), ":")
		suffix = "-" + hex[:min(shortDigest, len(hex))]
	case name.Tag:
		if tag := parsed.TagStr(); tag != name.DefaultTag {
			suffix = "-" + tag
		}
	}
	// A name starts with a letter or a digit; repositories needn't.
	base = strings.TrimLeft(base, "._-")
	if base == "" {
		base = "image"
	}
	suffix = suffix[:min(len(suffix), maxHostName/2)]
	return base[:min(len(base), maxHostName-len(suffix))] + suffix
}
