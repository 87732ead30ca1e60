package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/regularfile"
)

// credentialFiles are what coding agents keep their log-ins in, relative to
// the home directory on both sides. Nothing else of those folders is copied.
var credentialFiles = []string{
	".local/share/opencode/auth.json",
	".claude/.credentials.json",
	".pi/agent/auth.json",
}

// maxCredential is more than any log-in takes, in bytes.
const maxCredential = 1 << 20

// Credentials are the log-ins that go into a VM.
type Credentials struct {
	Files []guest.File
	// Unreadable are the places, in the guest, of those that the host has but
	// can't read: a copy of an earlier start stays.
	Unreadable []string
	Warnings   []string // a line each, for the user
}

// ReadCredentials reads those credential files of the user that exist, for the
// same places below the guest's /root. One that can't be had is a warning: a VM
// without a log-in is of more use than none. A symlink that leads out of home
// is not followed, since it may be anybody's.
func ReadCredentials(home string) Credentials {
	var c Credentials
	for _, name := range credentialFiles {
		place := "/root/" + name
		data, err := readBelow(home, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.Unreadable = append(c.Unreadable, place)
			c.Warnings = append(c.Warnings, fmt.Sprintf("the log-in ~/%s is not copied into the VM: %v", name, err))
		default:
			c.Files = append(c.Files, guest.File{Path: place, Mode: 0o600, Data: data})
		}
	}
	return c
}

// readBelow reads a file that is in a directory, also after symlinks.
func readBelow(dir, name string) ([]byte, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
	if errors.Is(err, unix.ENOTDIR) { // something else is called like its folder
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, reason(err)
	}
	if base, err := filepath.EvalSymlinks(dir); err != nil || !strings.HasPrefix(real, strings.TrimSuffix(base, "/")+"/") {
		return nil, fmt.Errorf("it is a link to %s, outside of your home", real)
	}
	data, err := regularfile.Read(real, unix.O_NOFOLLOW, maxCredential)
	if err != nil {
		return nil, reason(err)
	}
	return data, nil
}

// reason is an error of the file system without the path, which the message
// around it names.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
