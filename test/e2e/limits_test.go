//go:build e2e

package e2e

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// limitsScript prints the limits that developers' tools run into.
const limitsScript = `
	echo files $(ulimit -Sn)
	for s in fs/inotify/max_user_watches fs/inotify/max_user_instances vm/max_map_count; do
		echo $s $(cat /proc/sys/$s)
	done`

// wantLimits is what limitsScript prints, for a guest whose memory gives it no
// more than that.
const wantLimits = `files 65536
fs/inotify/max_user_watches 524288
fs/inotify/max_user_instances 8192
vm/max_map_count 262144`

// TestLimits: commands and services have room, in an image of banger's and in
// one that knows nothing of it.
func TestLimits(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "limits")
		if got := h.guestSays(t, "limits", limitsScript); got != wantLimits {
			t.Errorf("a command:\n%s", got)
		}
		unit := "systemd-run -q --wait --pipe sh -c 'ulimit -Sn; ulimit -Hn'"
		if got := h.guestSays(t, "limits", unit); got != "65536\n1048576" {
			t.Errorf("a service: %q", got)
		}
		if got := h.guestSays(t, "limits", "sysctl -q --system; "+limitsScript); got != wantLimits {
			t.Errorf("with all of sysctl.d applied again:\n%s", got)
		}
		// What the agent does is enough, without the image's files.
		h.guestSays(t, "limits", "rm /etc/sysctl.d/50-banger.conf /etc/systemd/system.conf.d/50-banger.conf")
		h.must(t, "vm", "restart", "limits")
		if got := h.guestSays(t, "limits", limitsScript); got != wantLimits {
			t.Errorf("a command without the image's files:\n%s", got)
		}
		if got := h.guestSays(t, "limits", unit); got != "65536\n1048576" {
			t.Errorf("a service without the image's files: %q", got)
		}

		ref := h.serveImage(t, makeContainer(t, busyboxTree(t), v1.Config{}))
		h.must(t, "image", "pull", ref, "--name", "bare-limits")
		t.Cleanup(func() { h.must(t, "image", "delete", "bare-limits") })
		if got := h.must(t, "vm", "run", "--rm", "--image", "bare-limits", "--", "/bin/sh", "-c", limitsScript); got != wantLimits+"\n" {
			t.Errorf("a container's image:\n%s", got)
		}
	})
}
