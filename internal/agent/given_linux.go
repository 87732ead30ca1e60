package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"banger/internal/guest"
)

// given is what the host ever put into a VM's root filesystem, at this boot or
// an earlier one. It may be secret and is never in an image made of the VM.
type given struct {
	Files []string `json:"files"` // their places, without symlinks
	Keys  []string `json:"keys"`  // lines of root's authorized_keys
}

// rememberGiven adds what is about to be written to a list on the VM's disk,
// outside of its root filesystem, and returns the whole list.
func rememberGiven(root *rootDir, list string, config guest.BootConfig) (given, error) {
	var g given
	old, err := os.ReadFile(list)
	if err == nil {
		err = json.Unmarshal(old, &g)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return g, fmt.Errorf("read the list of what the host gave: %w", err)
	}
	var written []string
	for _, f := range config.Files {
		written = append(written, f.Path)
	}
	if len(config.Env) > 0 {
		written = append(written, environmentFile)
	}
	for _, name := range written {
		place, err := root.place(name)
		if err != nil {
			return g, err
		}
		if !slices.Contains(g.Files, place) {
			g.Files = append(g.Files, place)
		}
	}
	for _, key := range config.AuthorizedKeys {
		if key = strings.TrimSpace(key); !slices.Contains(g.Keys, key) {
			g.Keys = append(g.Keys, key)
		}
	}
	content, err := json.Marshal(g)
	if err != nil {
		return g, fmt.Errorf("encode the list of what the host gave: %w", err)
	}
	if bytes.Equal(content, old) {
		return g, nil
	}
	if err := replaceFile(list, content); err != nil {
		return g, fmt.Errorf("write the list of what the host gave: %w", err)
	}
	return g, nil
}

// replaceFile writes a file that is there after a crash, in its old form or the
// new.
func replaceFile(name string, content []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, name)
}

// place returns where writeFile puts a file, and makes the directory for it.
func (r *rootDir) place(name string) (string, error) {
	name = path.Clean("/" + name)
	dir, err := r.mkdirAll(path.Dir(name), 0o755)
	if err != nil {
		return "", err
	}
	_ = dir.Close()
	resolved, err := r.resolve(path.Dir(name))
	if err != nil {
		return "", err
	}
	return path.Join(resolved, path.Base(name)), nil
}
