//go:build e2e

package e2e

import (
	"testing"
)

// TestRealDirectories: where tools stack overlays of their own, a directory is
// on the VM's disk; what is there is kept, and is in an image of the VM.
func TestRealDirectories(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "real")
		nested := h.guestSays(t, "real", `
			for d in /tmp /var/tmp /opt /srv /root /home /var/lib/rancher /var/lib/kubelet /var/lib/buildkit \
				/var/lib/containers /var/lib/lxc /var/lib/libvirt; do
				mkdir -p $d/o/lower $d/o/upper $d/o/work $d/o/merged && echo below > $d/o/lower/f &&
				mount -t overlay overlay -o lowerdir=$d/o/lower,upperdir=$d/o/upper,workdir=$d/o/work $d/o/merged &&
				echo above > $d/o/merged/f && mv $d/o/merged/f $d/o/merged/g && umount $d/o/merged || echo $d fails
				rm -rf $d/o
			done`)
		if nested != "" {
			t.Errorf("overlays of the guest's own: %s", nested)
		}
		if got := h.guestSays(t, "real", "stat -c '%a %U' /tmp /var/tmp /opt /srv"); got != "1777 root\n1777 root\n755 root\n755 root" {
			t.Errorf("modes: %q", got)
		}
		if got := h.guestSays(t, "real", "dd if=/dev/zero of=/opt/swap bs=1M count=16 status=none; chmod 600 /opt/swap; mkswap -q /opt/swap && swapon /opt/swap && swapoff /opt/swap && echo swapped; rm /opt/swap"); got != "swapped" {
			t.Errorf("a file to swap to: %q", got)
		}
		h.guestSays(t, "real", "echo kept > /opt/kept; mkdir /srv/site; echo kept > /var/tmp/kept")
		h.must(t, "vm", "restart", "real")
		if got := h.guestSays(t, "real", "cat /opt/kept /var/tmp/kept; ls /srv"); got != "kept\nkept\nsite" {
			t.Errorf("after a restart: %q", got)
		}
		h.deleteImage(t, "of-real")
		h.must(t, "image", "commit", "real", "of-real")
		got := h.must(t, "vm", "run", "--rm", "--image", "of-real", "--", "sh", "-c", "cat /opt/kept; ls /srv; stat -f -c %T /opt /tmp")
		// /opt isn't empty in that image, and so it isn't copied.
		if got != "kept\nsite\noverlayfs\next2/ext3\n" {
			t.Errorf("an image of the VM: %q", got)
		}
	})
}
