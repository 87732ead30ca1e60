// Package bundle writes and reads the files in which images and kernels
// travel: a tar archive, compressed with zstd, of manifest.json and then the
// files that it describes. docs/image-catalog.md has the format.
package bundle

import (
	"io/fs"
	"strings"
)

// ManifestName is the first file of every bundle.
const ManifestName = "manifest.json"

// maxManifest bounds manifest.json, which is read into memory.
const maxManifest = 1 << 20

// File is a file that goes into a bundle.
type File struct {
	Name string // in the bundle: relative, with slashes
	Path string // on the host
}

// validName reports whether a name can be a file's in a bundle. Control
// characters and backslashes are of no use there, only of abuse.
func validName(name string) bool {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\uFFFD' }
	return fs.ValidPath(name) && name != "." && !strings.ContainsFunc(name, bad)
}
