package room

import (
	"errors"
	"syscall"

	"banger/internal/api"
)

// IsFull reports whether err comes of a full disk, or of a quota that is used up.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Full is the error of a full disk; dir is where space is needed, and hint says
// what to do and what was left there.
func Full(dir, hint string) *api.Error {
	return api.Errorf(api.CodeHost, "the disk that holds %s is full", dir).WithHint("%s", hint)
}

// Explain returns Full if err comes of a full disk, and err otherwise. It is for
// work that leaves nothing behind.
func Explain(err error, dir string) error {
	if !IsFull(err) {
		return err
	}
	return Full(dir, "make room there and try again; nothing was left behind")
}
