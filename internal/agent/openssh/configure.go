package openssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// options are how a guest with a single user is logged in to; see sshd_config(5).
const options = `PermitRootLogin yes
PasswordAuthentication no
StrictModes no
`

// Files of the server's configuration.
const (
	mainConfig   = "/etc/ssh/sshd_config"
	vendorConfig = "/usr/etc/ssh/sshd_config" // openSUSE's, where there is no other
	dropIn       = "/etc/ssh/sshd_config.d/50-banger.conf"
)

const header = "# Written by banger.\n"

// configure sets the options: in a file of their own where the configuration
// includes such files, else before all others, for the first value of an option
// is the one that counts.
func (t *try) configure() error {
	if err := t.unlockRoot(); err != nil {
		return fmt.Errorf("let root log in by key: %w", err)
	}
	name := mainConfig
	if !t.exists(mainConfig) && t.exists(vendorConfig) {
		name = vendorConfig
	}
	old, err := os.ReadFile(t.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the server's configuration: %w", err)
	}
	if includesDropIns(string(old)) {
		if err := os.MkdirAll(filepath.Dir(t.path(dropIn)), 0o755); err != nil {
			return fmt.Errorf("configure the server: %w", err)
		}
		return t.replace(dropIn, []byte(header+options), 0o644)
	}
	if strings.HasPrefix(string(old), header+options) {
		return nil
	}
	return t.replace(mainConfig, []byte(header+options+string(old)), 0o644)
}

// includesDropIns tells whether a configuration reads the directory of dropIn.
func includesDropIns(config string) bool {
	for line := range strings.Lines(config) {
		fields := strings.Fields(strings.ReplaceAll(line, `"`, ""))
		if len(fields) > 0 && strings.EqualFold(fields[0], "Match") {
			return false // what follows is for some logins only
		}
		if len(fields) < 2 || !strings.EqualFold(fields[0], "Include") {
			continue
		}
		for _, pattern := range fields[1:] {
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join("/etc/ssh", pattern)
			}
			if ok, err := filepath.Match(pattern, dropIn); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// unlockRoot replaces the mark of a locked account, "!" in shadow(5), by one of an
// account without a password: a server without PAM lets nobody into the former.
func (t *try) unlockRoot() error {
	const shadow = "/etc/shadow"
	old, err := os.ReadFile(t.path(shadow))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(old)) {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) == 3 && fields[0] == "root" && strings.HasPrefix(fields[1], "!") {
			line = "root:*:" + fields[2]
		}
		b.WriteString(line)
	}
	if b.String() == string(old) {
		return nil
	}
	return t.replace(shadow, []byte(b.String()), 0o600)
}

// replace writes a file by a rename. An old one's mode and owner stay.
func (t *try) replace(name string, content []byte, mode fs.FileMode) (err error) {
	path := t.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".banger-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = likeOld(f, path, mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// hasHostKeys tells whether the server has any key to prove who it is.
func (t *try) hasHostKeys() bool {
	keys, err := filepath.Glob(t.path("/etc/ssh/ssh_host_*_key"))
	return err == nil && len(keys) > 0
}

func (t *try) makeHostKeys(ctx context.Context) error {
	if t.hasHostKeys() {
		return nil
	}
	keygen := t.lookup("ssh-keygen")
	if keygen == "" {
		return errors.New("the image has sshd, but no ssh-keygen to make its keys with")
	}
	if err := t.run(ctx, []string{keygen, "-A"}); err != nil {
		return fmt.Errorf("make the server's keys: %w", err)
	}
	return nil
}
