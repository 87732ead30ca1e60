//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// load keeps two processors busy until the test ends, with less right to them
// than what is tested.
func load(t *testing.T) {
	t.Helper()
	for range 2 {
		cmd := exec.Command("nice", "-n", "5", "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		})
	}
}

// serveSSH has systemd listen on port 22 of a VM and start OpenSSH's server at
// the first connection, as in the default image.
const serveSSH = `
	apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install openssh-server
	systemctl disable --now ssh.service && systemctl enable --now ssh.socket`

// banner waits for what OpenSSH's server says first.
const banner = `timeout 100 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22 && head -c 8 <&3'`

// TestRestarts: after each restart under load OpenSSH's server answers, and the
// guest goes down by itself. BANGER_E2E_RESTARTS is how often.
func TestRestarts(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		restarts := 3
		if text := os.Getenv("BANGER_E2E_RESTARTS"); text != "" {
			var err error
			if restarts, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
		h.create(t, "restarts")
		h.guestSays(t, "restarts", serveSSH)
		load(t)
		var stops, starts, answers []time.Duration
		measure := func(all *[]time.Duration, do func()) {
			began := time.Now()
			do()
			*all = append(*all, time.Since(began))
		}
		for n := range restarts {
			measure(&stops, func() { h.must(t, "vm", "stop", "restarts") })
			if !h.wentDown(t, "restarts", n+1) {
				t.Errorf("restart %d: the guest didn't go down by itself", n)
			}
			measure(&starts, func() {
				if r := h.run(t, "vm", "start", "restarts"); r.exit != 0 {
					t.Fatalf("restart %d: exit %d: %s\n%s", n, r.exit, r.stderr, h.run(t, "vm", "logs", "restarts").stdout)
				}
			})
			measure(&answers, func() {
				if got := h.guestSays(t, "restarts", banner); got != "SSH-2.0-" {
					t.Errorf("restart %d: port 22 says %q", n, got)
				}
			})
			if log := h.must(t, "vm", "logs", "restarts"); strings.Contains(log, "timed out. Killing") {
				t.Errorf("restart %d: systemd had to kill:\n%s", n, log)
			}
			t.Logf("restart %d: stop %s, start %s, answer %s", n, stops[n].Round(time.Second), starts[n].Round(time.Second), answers[n].Round(time.Second))
		}
		t.Logf("%d restarts: stop %s, start %s, answer %s", restarts, spread(stops), spread(starts), spread(answers))
	})
}

// wentDown tells whether a VM's guest has gone down by itself so many times.
func (h *host) wentDown(t *testing.T, name string, times int) bool {
	t.Helper()
	return strings.Count(h.must(t, "vm", "logs", name), "reboot: Restarting system") == times
}

// spread is the least, the median and the most.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	round := func(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
	return round(all[0]) + "/" + round(all[len(all)/2]) + "/" + round(all[len(all)-1])
}
