package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// probeKey is what a probe's result depends on. A result is good until one of
// these changes.
type probeKey struct {
	HostKernel string   `json:"host_kernel"` // uname -r
	QEMU       fileInfo `json:"qemu"`
	Kernel     fileInfo `json:"kernel"`
}

// fileInfo identifies a version of a file without reading it.
type fileInfo struct {
	Path    string    `json:"path"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
}

// probeCache is the content of the cache file.
type probeCache struct {
	Key    probeKey     `json:"key"`
	Result api.KVMProbe `json:"result"`
}

func (p *Prober) key() (probeKey, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return probeKey{}, fmt.Errorf("ask for the host's kernel release: %w", err)
	}
	path, err := FindBinary(p.Binary)
	if err != nil {
		return probeKey{}, err
	}
	binary, err := identifyFile(path)
	if err != nil {
		return probeKey{}, fmt.Errorf("find QEMU: %w", err)
	}
	kernel, err := identifyFile(p.Kernel)
	if err != nil {
		return probeKey{}, fmt.Errorf("find the kernel to try KVM with: %w", err)
	}
	return probeKey{unix.ByteSliceToString(uname.Release[:]), binary, kernel}, nil
}

func identifyFile(path string) (fileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileInfo{}, err
	}
	return fileInfo{Path: path, Size: info.Size(), ModTime: info.ModTime().UTC()}, nil
}

// readCache returns the result in the file at path if it was got under the
// same key. A file that can't be read counts as none.
func readCache(path string, key probeKey) (api.KVMProbe, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return api.KVMProbe{}, false
	}
	var c probeCache
	if err := json.Unmarshal(data, &c); err != nil || c.Key != key {
		return api.KVMProbe{}, false
	}
	return c.Result, true
}

func writeCache(path string, key probeKey, result api.KVMProbe) error {
	data, err := json.MarshalIndent(probeCache{key, result}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o600)
}
