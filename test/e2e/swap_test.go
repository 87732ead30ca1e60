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
		// Of a pipe, tail writes nothing before it holds all of the end in memory,
		// and it holds that until the last byte is read.
		const script = `head -c 350M /dev/zero | tail -c 350M | {
			head -c 1 | wc -c
			awk 'NR == 2 { print $3, ($4 > 0 ? "used" : "not used") }' /proc/swaps
			wc -c
		}`
		if got := h.guestSays(t, "swaps", script); got != "1\n524284 used\n367001599" {
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
