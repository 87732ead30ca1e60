//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestFullKernel: Debian's ordinary kernel boots, and has what its cloud kernel
// lacks.
func TestFullKernel(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.deleteImage(t, "full")
		h.must(t, "image", "register", "--name", "full", "--rootfs", h.rootfs(t), "--kernel-ref", "generic-6.12-full")
		h.create(t, "full", "--image", "full")
		// What was fscache is in netfs since Linux 6.8.
		modules := []string{"9p", "uinput", "vhci_hcd", "usbip_host", "f2fs", "can", "vcan", "snd-dummy", "netfs", "cachefiles"}
		loaded := h.guestSays(t, "full", "for m in "+strings.Join(modules, " ")+"; do modprobe $m && echo $m; done")
		if got := strings.Fields(loaded); !slices.Equal(got, modules) {
			t.Errorf("of %v there are %v", modules, got)
		}
		if got := h.guestSays(t, "full", "ip link add dev vcan0 type vcan && ip link set vcan0 up && cat /sys/class/net/vcan0/flags"); got != "0x81" { // IFF_UP and IFF_NOARP
			t.Errorf("a virtual CAN bus has flags %s", got)
		}
	})
}
