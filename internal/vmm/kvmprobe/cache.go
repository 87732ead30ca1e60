package kvmprobe

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

// key is what a result depends on. A result is good until one of these changes.
type key struct {
	HostKernel string   `json:"host_kernel"` // uname -r
	VMM        fileInfo `json:"vmm"`
	Kernel     fileInfo `json:"kernel"`
}

// fileInfo identifies a version of a file without reading it.
type fileInfo struct {
	Path    string    `json:"path"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
}

// entry is a result in the cache file, which is a list of them: one for each
// VMM and kernel, by path.
type entry struct {
	Key    key          `json:"key"`
	Result api.KVMProbe `json:"result"`
}

func newKey(vmm VMM) (key, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return key{}, fmt.Errorf("ask for the host's kernel release: %w", err)
	}
	binary, err := identifyFile(vmm.Binary)
	if err != nil {
		return key{}, fmt.Errorf("find %s: %w", vmm.Name, err)
	}
	kernel, err := identifyFile(vmm.Kernel)
	if err != nil {
		return key{}, fmt.Errorf("find the kernel to try KVM with: %w", err)
	}
	return key{unix.ByteSliceToString(uname.Release[:]), binary, kernel}, nil
}

func identifyFile(path string) (fileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileInfo{}, err
	}
	return fileInfo{Path: path, Size: info.Size(), ModTime: info.ModTime().UTC()}, nil
}

// readCache returns the result in the file at path that was got under the same
// key.
func readCache(path string, k key) (api.KVMProbe, bool) {
	for _, e := range readEntries(path) {
		if e.Key == k {
			return e.Result, true
		}
	}
	return api.KVMProbe{}, false
}

// readEntries returns nothing of a file that can't be read.
func readEntries(path string) []entry {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var entries []entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil
	}
	return entries
}

// writeCache adds a result, and drops those for other versions of the same
// files. Of two writers at a time one may lose its result, which is found again
// the next time.
func writeCache(path string, k key, result api.KVMProbe) error {
	entries := []entry{{k, result}}
	for _, e := range readEntries(path) {
		if e.Key.VMM.Path != k.VMM.Path || e.Key.Kernel.Path != k.Kernel.Path {
			entries = append(entries, e)
		}
	}
	data, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o600)
}
