package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"banger/internal/terminfo"
)

// terminalType returns what TERM is to be: the client's terminal if the guest
// knows it, or does once the description that the client has sent is among the
// user's own; else one that is known everywhere, and a line about that for the
// user. A guest that knows no terminal at all is left in peace.
func (s *session) terminalType(env environment) (term, note string) {
	dirs := terminfo.Dirs(env["TERMINFO"], s.conn.user.home, env["TERMINFO_DIRS"])
	if terminfo.Find(s.term, dirs) != nil || terminfo.Find(terminfo.Fallback, dirs) == nil && s.terminfo == nil {
		return s.term, ""
	}
	if s.terminfo != nil {
		err := asUser(s.conn.user, func() error { return installTerminfo(s.conn.user.home, s.term, s.terminfo) })
		if err != nil {
			s.conn.log.Warn("keep a terminal's description", "terminal", s.term, "error", err)
		}
		if terminfo.Find(s.term, dirs) != nil {
			return s.term, ""
		}
	}
	return terminfo.Fallback, fmt.Sprintf("banger: neither the guest nor its host describes the terminal %q; TERM is %s", s.term, terminfo.Fallback)
}

// installTerminfo puts a description among those of the user who is at home
// there.
func installTerminfo(home, term string, data []byte) error {
	if !filepath.IsAbs(home) || home == "/" {
		return errors.New("the user has no home")
	}
	if !terminfo.IsName(term) {
		return errors.New("it has no name")
	}
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return errors.New("the user has no home")
	}
	path := filepath.Join(terminfo.Own(home), terminfo.Place(term))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".banger-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	return err
}

// asUser calls f with a user's rights to files, for a home may be full of
// symlinks that lead elsewhere.
func asUser(user *account, f func() error) error {
	if user.isSelf() {
		return f()
	}
	// The rights are the thread's. One that doesn't get its own back ends with
	// the goroutine that is bound to it.
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := setFileRights(int(user.uid), int(user.gid))
		if err == nil {
			err = f()
			if setFileRights(os.Getuid(), os.Getgid()) == nil {
				runtime.UnlockOSThread()
			}
		}
		ended <- err
	}()
	return <-ended
}

// setFileRights sets the user and group as whom this thread reaches files,
// setfsuid(2).
func setFileRights(uid, gid int) error {
	// The calls tell of no errors, but of what was before; -1 changes nothing.
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	gidNow, _ := unix.SetfsgidRetGid(-1)
	uidNow, _ := unix.SetfsuidRetUid(-1)
	if uidNow != uid || gidNow != gid {
		return fs.ErrPermission
	}
	return nil
}
