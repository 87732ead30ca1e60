package workspace

import (
	"path"
	"slices"
	"strings"

	"banger/internal/api"
)

// defaultGuestPath is where a repository goes unless told otherwise: always the
// same place, so that scripts and agents needn't know what it is called.
const defaultGuestPath = "/root/repo"

// systemDirs are directories of a guest that files are not copied right into: it
// wouldn't be the same machine any more.
var systemDirs = []string{
	"/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/root", "/sbin",
	"/usr", "/usr/bin", "/usr/lib", "/usr/sbin", "/var", "/var/lib",
}

// passingDirs don't keep what is copied into them: other filesystems are mounted
// there, or are emptied, as the guest boots.
var passingDirs = []string{"/dev", "/lib/modules", "/proc", "/run", "/sys", "/tmp", "/usr/lib/modules", "/var/lock", "/var/run"}

// guestPath checks where files are to go. fallback is a place for which there is
// no objection.
func guestPath(wanted, fallback string) (string, error) {
	if wanted == "" {
		wanted = fallback
	}
	clean := path.Clean(wanted)
	passing := slices.IndexFunc(passingDirs, func(dir string) bool { return clean == dir || strings.HasPrefix(clean, dir+"/") })
	var err *api.Error
	switch {
	case !path.IsAbs(clean) || clean == "/" || strings.ContainsRune(clean, 0):
		err = api.Errorf(api.CodeInvalid, "the guest path %q is not an absolute path below /", wanted)
	case slices.Contains(systemDirs, clean):
		err = api.Errorf(api.CodeInvalid, "the guest path %s is a directory of the guest's system", clean)
	case passing >= 0:
		err = api.Errorf(api.CodeInvalid, "the guest path %s is no place for files: what is in %s doesn't outlive a start of the VM", clean, passingDirs[passing])
	default:
		return clean, nil
	}
	return "", err.WithHint("use for instance %s", fallback)
}
