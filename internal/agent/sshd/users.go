package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is a user of the guest, passwd(5).
type account struct {
	name   string // the number of a user that has none
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

// lookupUser finds the account that a login name stands for: USER or
// USER:GROUP, each a name or a number, with the meaning of docker's --user
// (https://docs.docker.com/reference/cli/docker/container/exec/#user). A number
// needs no entry in passwd or group; such a user is in group 0 and at home in /.
// Where a group is given the account has no other. Root exists even without a
// passwd file, as in images of a single program.
func lookupUser(etc, login string) (*account, error) {
	name, group, hasGroup := strings.Cut(login, ":")
	a, err := findUser(filepath.Join(etc, "passwd"), name)
	if err != nil {
		return nil, err
	}
	a.shell = usableShell(a.shell)
	groupFile := filepath.Join(etc, "group")
	if hasGroup {
		if a.gid, err = findGroup(groupFile, group); err != nil {
			return nil, err
		}
		a.groups = []uint32{a.gid}
		return a, nil
	}
	if a.groups, err = findGroups(groupFile, a); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look up groups of %s: %w", name, err)
	}
	return a, nil
}

// findUser finds an account by its name or number. A number is never taken for
// a name.
func findUser(passwd, name string) (*account, error) {
	uid, isNumber := parseID(name)
	matches := func(f []string) bool { return f[0] == name }
	if isNumber {
		matches = func(f []string) bool { n, ok := parseID(f[2]); return ok && n == uid }
	}
	a, err := findPasswd(passwd, matches)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look up user %s: %w", name, err)
	case a != nil:
		return a, nil
	case name == "root" || isNumber && uid == 0:
		return &account{name: "root", home: "/root"}, nil
	case isNumber:
		return &account{name: name, uid: uid, home: "/"}, nil
	}
	return nil, fmt.Errorf("the guest has no user named %s: see its /etc/passwd", name)
}

// findGroup returns the id of a group given by its name or number.
func findGroup(path, group string) (uint32, error) {
	if gid, ok := parseID(group); ok {
		return gid, nil
	}
	gid, ok, err := groupID(path, group)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("look up group %s: %w", group, err)
	case !ok:
		return 0, fmt.Errorf("the guest has no group named %s: see its /etc/group", group)
	}
	return gid, nil
}

// groupID finds a group by its name, group(5).
func groupID(path, name string) (gid uint32, ok bool, err error) {
	err = eachLine(path, func(f []string) {
		if !ok && len(f) >= 3 && f[0] == name {
			gid, ok = parseID(f[2])
		}
	})
	return gid, ok, err
}

// parseID reads the number of a user or a group. The highest one means "none"
// to the kernel.
func parseID(s string) (id uint32, ok bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != math.MaxUint32
}

// usableShell replaces a shell that the image doesn't have, and one that only
// refuses logins: an image's account for a service can run commands all the
// same, as it can in a container.
func usableShell(shell string) string {
	if base := filepath.Base(shell); base == "nologin" || base == "false" {
		shell = ""
	}
	for _, s := range []string{shell, "/bin/bash", "/bin/sh", "/bin/ash"} {
		if isProgram(s) {
			return s
		}
	}
	if shell == "" {
		return "/bin/sh" // its absence matters when it is started
	}
	return shell
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
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

// findPasswd returns the first account of passwd(5) whose line matches.
func findPasswd(path string, matches func(fields []string) bool) (*account, error) {
	var found *account
	err := eachLine(path, func(f []string) {
		if found != nil || len(f) < 7 || !matches(f) {
			return
		}
		uid, uidOK := parseID(f[2])
		gid, gidOK := parseID(f[3])
		if uidOK && gidOK {
			found = &account{name: f[0], uid: uid, gid: gid, home: f[5], shell: f[6]}
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
		if gid, ok := parseID(f[2]); ok && !slices.Contains(groups, gid) {
			groups = append(groups, gid)
		}
	})
	return groups, err
}
