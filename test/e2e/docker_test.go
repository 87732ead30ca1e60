//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDockerAfterRestarts: restarts keep images, containers and volumes, be the
// containers busy or deaf; a boot waits for no container, and a stop not for
// long.
func TestDockerAfterRestarts(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "docker", "--image", "debian-bookworm")
		if r := h.runWithInput(t, string(busyboxTree(t)), "vm", "exec", "docker", "--", "docker", "import", "-", "box"); r.exit != 0 {
			t.Fatalf("make an image: %s", r.stderr)
		}
		h.guestSays(t, "docker", `set -e
			docker volume create kept
			docker run --name once -v kept:/data box /bin/sh -c 'echo in the volume >/data/f; echo in the container >/f'
			docker run -d --restart=always --name reader box /bin/sh -c 'while :; do cat /bin/busybox >/dev/null; done'
			docker run -d --restart=always --name deaf box /bin/sh -c 'trap "" TERM INT HUP; while :; do sleep 1; done'
			docker run -d --restart=unless-stopped --name ordinary box /bin/sleep 1000000`)
		for n := range 2 {
			began := time.Now()
			h.must(t, "vm", "stop", "docker")
			stopped := time.Now()
			if !h.wentDown(t, "docker", n+1) {
				t.Error("the guest didn't go down by itself")
			}
			h.must(t, "vm", "start", "docker")
			t.Logf("stop %s, start %s", stopped.Sub(began), time.Since(stopped))
			h.eventually(t, func() bool {
				return h.guestSays(t, "docker", "docker ps --format '{{.Names}}' | sort | xargs") == "deaf ordinary reader"
			})
			if got := h.guestSays(t, "docker", "docker start -a once >/dev/null; docker cp once:/f - | tar xO; docker run --rm -v kept:/data box cat /data/f"); got != "in the container\nin the volume" {
				t.Errorf("what was kept: %q", got)
			}
			booted := h.monotonic(t, "docker", "systemctl show -P FinishTimestampMonotonic")
			asked := h.monotonic(t, "docker", "systemctl show -P InactiveExitTimestampMonotonic docker.service")
			if booted == 0 || asked < booted {
				t.Errorf("systemd finished after %s, Docker was started after %s", booted, asked)
			}
			if got := h.guestSays(t, "docker", "systemctl is-system-running"); got != "running" {
				t.Errorf("systemd says %q", got)
			}
		}
	})
}

// monotonic runs a script that prints microseconds.
func (h *host) monotonic(t *testing.T, name, script string) time.Duration {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(h.guestSays(t, name, script)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Microsecond
}
