//go:build e2e

package e2e

import "testing"

// TestRealRoot: a VM's root is one filesystem, and the image of such a VM is
// whole.
func TestRealRoot(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "copy", "--real-root", "--disk", "2G")
		if got := h.guestSays(t, "copy", "systemctl is-system-running; stat -f -c %T / /tmp /root"); got != "running\next2/ext3\next2/ext3\next2/ext3" {
			t.Errorf("the root: %q", got)
		}
		got := h.guestSays(t, "copy", `set -e
			mkdir -p /mnt/l /mnt/u /mnt/w /mnt/m
			mount -t overlay overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m; umount /mnt/m
			dd if=/dev/zero of=/swap bs=1M count=16 status=none; chmod 600 /swap; mkswap -q /swap; swapon /swap; swapoff /swap
			echo kept > /tmp/a; ln /tmp/a /root/b; cat /root/b
			echo written > /etc/written; git --version >/dev/null; stat -c %a /usr/bin/su /root /tmp`)
		if got != "kept\n4755\n700\n1777" {
			t.Errorf("what an overlay can't: %q", got)
		}
		h.must(t, "vm", "restart", "copy")
		if got := h.guestSays(t, "copy", "cat /root/b /etc/written"); got != "kept\nwritten" {
			t.Errorf("after a restart: %q", got)
		}
		h.deleteImage(t, "of-copy")
		h.must(t, "image", "commit", "copy", "of-copy")
		if got := h.must(t, "vm", "run", "--rm", "--image", "of-copy", "--", "cat", "/etc/written", "/root/b"); got != "written\nkept\n" {
			t.Errorf("an image of the VM: %q", got)
		}
	})
}
