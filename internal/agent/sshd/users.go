package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is a user of the guest, passwd(5).
type account struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32 // supplementary ones
	home   string
	shell  string
}

// isSelf tells whether the account is the one that this process runs as.
func (a *account) isSelf() bool { return int(a.uid) == os.Getuid() }

// credential is what a process of the account needs; nil if it has it already.
func (a *account) credential() *syscall.Credential {
	if a.isSelf() && a.uid != 0 {
		return nil // an ordinary user may not set groups, and needn't
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// lookupUser finds an account by name. Root exists even without a passwd file,
// as in images of a single program.
func lookupUser(etc, name string) (*account, error) {
	a, err := findPasswd(filepath.Join(etc, "passwd"), name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look up user %s: %w", name, err)
	case a == nil && name == "root":
		a = &account{name: "root", home: "/root"}
	case a == nil:
		return nil, fmt.Errorf("look up user %s: no such user in the guest", name)
	}
	a.shell = usableShell(a.shell)
	if a.groups, err = findGroups(filepath.Join(etc, "group"), a); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look up groups of %s: %w", name, err)
	}
	return a, nil
}

// usableShell replaces a shell that the image doesn't have.
func usableShell(shell string) string {
	for _, s := range []string{shell, "/bin/bash", "/bin/sh", "/bin/ash"} {
		if info, err := os.Stat(s); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return s
		}
	}
	if shell == "" {
		return "/bin/sh" // its absence is reported when it is started
	}
	return shell
}

// eachLine calls f with the colon-separated fields of each line of a file.
func eachLine(path string, f func(fields []string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			f(strings.Split(line, ":"))
		}
	}
	return lines.Err()
}

func findPasswd(path, name string) (*account, error) {
	var found *account
	err := eachLine(path, func(f []string) {
		if found != nil || len(f) < 7 || f[0] != name {
			return
		}
		uid, uidErr := strconv.ParseUint(f[2], 10, 32)
		gid, gidErr := strconv.ParseUint(f[3], 10, 32)
		if uidErr == nil && gidErr == nil {
			found = &account{name: name, uid: uint32(uid), gid: uint32(gid), home: f[5], shell: f[6]}
		}
	})
	return found, err
}

// findGroups returns the account's supplementary groups, group(5).
func findGroups(path string, a *account) ([]uint32, error) {
	groups := []uint32{a.gid}
	err := eachLine(path, func(f []string) {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), a.name) {
			return
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && !slices.Contains(groups, uint32(gid)) {
			groups = append(groups, uint32(gid))
		}
	})
	return groups, err
}
