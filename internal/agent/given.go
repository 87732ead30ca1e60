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

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// given is what the host ever put into a VM's root filesystem, at this boot or
// an earlier one. It may be secret and is never in an image made of the VM.
type given struct {
	Files []string `json:"files"` // their places, without symlinks
	Keys  []string `json:"keys"`  // lines of root's authorized_keys
	// Now are those of Files that are there on the host's behalf at this boot.
	// What the guest's user puts into such a place later is theirs.
	Now []string `json:"now,omitempty"`
}

// rememberGiven adds what is about to be written to a list on the VM's disk,
// outside of its root filesystem, and returns the whole list. What the host put
// there at the boot before and has no longer is removed.
func rememberGiven(root *rootDir, list string, config guest.BootConfig) (given, error) {
	old, g, err := readGiven(list)
	if err != nil {
		return g, err
	}
	before := g.Now
	g.Now = nil
	for _, f := range config.Files {
		// One that has no place there can't be written either; writeFiles says so.
		if place, err := root.place(f.Path); err == nil {
			g.Now = append(g.Now, place)
		}
	}
	for _, name := range config.KeepFiles {
		if place, err := root.place(name); err == nil && slices.Contains(before, place) {
			g.Now = append(g.Now, place)
		}
	}
	for _, place := range before {
		if !slices.Contains(g.Now, place) {
			root.withdraw(place)
		}
	}
	places := g.Now
	if len(config.Env) > 0 {
		place, err := root.place(environmentFile)
		if err != nil {
			return g, err
		}
		places = append(slices.Clip(places), place)
	}
	g.add(places, config.AuthorizedKeys)
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

// readGiven returns the list, and it as it stands in the file.
func readGiven(list string) (content []byte, g given, err error) {
	content, err = os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, g, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &g)
	}
	if err != nil {
		return nil, g, fmt.Errorf("read the list of what the host gave: %w", err)
	}
	return content, g, nil
}

// add adds what is there now to what ever was.
func (g *given) add(places, keys []string) {
	for _, place := range places {
		if !slices.Contains(g.Files, place) {
			g.Files = append(g.Files, place)
		}
	}
	for _, key := range keys {
		if key = strings.TrimSpace(key); !slices.Contains(g.Keys, key) {
			g.Keys = append(g.Keys, key)
		}
	}
}

// withdraw removes a file of the host's, unless the guest has made something
// else of the place. A guest that doesn't let go of it keeps it.
func (r *rootDir) withdraw(place string) {
	dir, err := r.open(path.Dir(place), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer dir.Close()
	_ = unix.Unlinkat(int(dir.Fd()), path.Base(place), 0)
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
