//go:build e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSwap: a command may take more than the VM has memory.
func TestSwap(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "swaps", "--memory", "256M", "--swap", "512M")
		if got := h.guestSays(t, "swaps", "tail -c 350M /dev/zero | wc -c; awk 'NR == 2 { print $3 }' /proc/swaps"); got != "367001600\n524284" {
			t.Errorf("got %q", got)
		}
		file := filepath.Join(h.home, "state/vms", h.vm(t, "swaps").ID, "swap.raw")
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
		h.must(t, "vm", "stop", "swaps")
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a stopped VM's file to swap to: %v", err)
		}
	})
}
