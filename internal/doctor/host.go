package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"banger/internal/rootless"
)

// System is the host as the checks see it; tests make their own.
type System struct {
	UID      int
	User     string                                   // login name
	QEMU     string                                   // name of the emulator for this architecture
	LookPath func(name string) (string, error)        // finds a program
	Open     func(path string) error                  // opens for reading and writing, and closes
	Free     func(path string) (uint64, error)        // bytes that this user may still write
	Rootless func(context.Context) []rootless.Finding // what only plain users need
}

// Host is the host that this program runs on.
func Host() System {
	return System{
		UID:      os.Getuid(),
		User:     login(),
		QEMU:     emulator(runtime.GOARCH),
		LookPath: lookPath,
		Open: func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			return f.Close()
		},
		Free:     free,
		Rootless: rootless.Check,
	}
}

func emulator(arch string) string {
	if arch == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// login returns the user's name, as subuid(5) has it; else the number.
func login() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// lookPath looks on PATH and then where Debian has its system tools, which
// isn't on the PATH of plain users.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// free looks at the nearest directory above path that exists.
func free(path string) (uint64, error) {
	for {
		var s unix.Statfs_t
		err := unix.Statfs(path, &s)
		if errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
			path = filepath.Dir(path)
			continue
		}
		return s.Bavail * uint64(s.Bsize), err
	}
}
