package firecracker

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// version is a release of Firecracker.
type version struct{ major, minor, patch int }

// oldest is the first release whose API has all that this driver sends.
// Firecracker refuses requests with fields it doesn't know, so whatever came
// later must be asked for by version before it is sent.
var oldest = version{1, 12, 0}

// versionText matches what Firecracker calls itself: 1.16.1, v1.16.1,
// 1.17.0-dev, v1.16.1-12-gabcdef.
var versionText = regexp.MustCompile(`^v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$`)

func parseVersion(text string) (version, error) {
	match := versionText.FindStringSubmatch(text)
	if match == nil {
		return version{}, fmt.Errorf("parse Firecracker's version %.100q: it isn't of the form 1.2.3", text)
	}
	var v version
	for i, part := range []*int{&v.major, &v.minor, &v.patch} {
		n, err := strconv.Atoi(match[i+1])
		if err != nil {
			return version{}, fmt.Errorf("parse Firecracker's version: %w", err)
		}
		*part = n
	}
	return v, nil
}

func (v version) less(other version) bool {
	return cmp.Or(cmp.Compare(v.major, other.major), cmp.Compare(v.minor, other.minor),
		cmp.Compare(v.patch, other.patch)) < 0
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch) }
