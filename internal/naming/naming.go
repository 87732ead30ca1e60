// Package naming has the rules for names that users, catalogs and bundles give.
package naming

import (
	"regexp"

	"banger/internal/api"
)

var (
	label    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	stored   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	sum      = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// IsLabel reports whether a name is a DNS label, RFC 1123 section 2.1, in small
// letters: what a VM can be called, as that is its host name, too.
func IsLabel(name string) bool { return label.MatchString(name) }

// IsStored reports whether an image or a kernel can have a name, and with it its
// directory: no path leads out of there by it, and no program takes it for an
// option.
func IsStored(name string) bool { return stored.MatchString(name) }

// CheckStored refuses a name that an image or a kernel can't have; what is either,
// with its article.
func CheckStored(what, name string) error {
	if !IsStored(name) {
		return api.Errorf(api.CodeInvalid, "%q can't be the name of %s", name, what).
			WithHint("use up to 63 letters, digits, '.', '_' and '-'; give one with --name")
	}
	return nil
}

// IsVariable reports whether shells can use a name as a variable's, POSIX.1-2017
// section 8.1.
func IsVariable(name string) bool { return variable.MatchString(name) }

// IsSHA256 reports whether s is a SHA-256 in small hex digits.
func IsSHA256(s string) bool { return sum.MatchString(s) }
