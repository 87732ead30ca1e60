// Package instance tells the bangerds of one host apart: each state directory
// has an id, by which its bridge and taps are known, and remembers the network
// that was chosen for it.
package instance

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"banger/internal/api"
)

// Instance is what is known of one state directory.
type Instance struct {
	ID string // 12 hex digits
	// Copied says that the state directory is a copy, made while it was another
	// instance's: what its records say of processes is that one's.
	Copied bool
	// Bridge and Subnet are the network that was chosen; zero if none was.
	Bridge string
	Subnet netip.Prefix

	file string
	seat seat
}

// seat is where a state directory is. One that was moved keeps its inode, and
// one on a filesystem without lasting inodes its path. A copy has another path
// and most often another inode, but not in a snapshot of a filesystem.
type seat struct {
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
}

// content is the file's.
type content struct {
	ID     string       `json:"id"`
	Seat   seat         `json:"state_dir"`
	Bridge string       `json:"bridge,omitempty"`
	Subnet netip.Prefix `json:"subnet,omitzero"`
}

// Open reads the file of a state directory, which is in it, or makes it. A copied one gets an id
// of its own, which is lost unless Keep is called once the records are put right.
// A damaged file is an api.CodeHost error.
func Open(file, stateDir string) (*Instance, error) {
	info, err := os.Stat(stateDir)
	if err != nil {
		return nil, fmt.Errorf("find the instance: %w", err)
	}
	i := &Instance{file: file, seat: seat{Path: stateDir}}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		i.seat.Inode = stat.Ino
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		i.ID = newID()
		return i, i.Keep()
	}
	if err != nil {
		return nil, fmt.Errorf("find the instance: %w", err)
	}
	var c content
	if err := json.Unmarshal(data, &c); err != nil || c.ID == "" {
		return nil, api.Errorf(api.CodeHost, "%s is damaged: %q", file, data).
			WithHint("stop all VMs and remove it; a new one is made")
	}
	i.ID, i.Bridge, i.Subnet = c.ID, c.Bridge, c.Subnet
	switch {
	case c.Seat == i.seat:
		return i, nil
	case c.Seat.Path == i.seat.Path || c.Seat.Inode == i.seat.Inode && !i.isAt(c.Seat.Path):
		return i, i.Keep()
	}
	i.ID, i.Copied = newID(), true
	return i, nil
}

// isAt tells whether a state directory of this instance is at path.
func (i *Instance) isAt(path string) bool {
	var there content
	data, err := os.ReadFile(filepath.Join(path, filepath.Base(i.file)))
	return err == nil && json.Unmarshal(data, &there) == nil && there.ID == i.ID
}

func newID() string {
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	return hex.EncodeToString(id)
}

// Choose remembers a network.
func (i *Instance) Choose(bridge string, subnet netip.Prefix) error {
	i.Bridge, i.Subnet = bridge, subnet
	return i.Keep()
}

// Keep writes the file, unless it says all that already: the disk may be full.
func (i *Instance) Keep() error {
	data, err := json.MarshalIndent(content{i.ID, i.seat, i.Bridge, i.Subnet}, "", "  ")
	data = append(data, '\n')
	if have, readErr := os.ReadFile(i.file); readErr == nil && bytes.Equal(have, data) {
		return nil
	}
	if err == nil {
		err = renameio.WriteFile(i.file, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep what identifies this banger: %w", err)
	}
	return nil
}
