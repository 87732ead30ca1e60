//go:build e2e

package e2e

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// clockError is how far a VM's clock is ahead of the host's, give or take what
// the question takes.
func (h *host) clockError(t testing.TB, name string) time.Duration {
	t.Helper()
	before := time.Now()
	said := h.guestSays(t, name, "date +%s%N")
	took := time.Since(before)
	nanos, err := strconv.ParseInt(said, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	off := time.Unix(0, nanos).Sub(before.Add(took / 2))
	if off.Abs() <= took/2 {
		return 0
	}
	return off
}

// TestClockFollowsTheHost: a clock that is wrong is right again soon, whether it
// was set in the guest or stood still with the VMM.
func TestClockFollowsTheHost(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "clock")
		right := func() {
			t.Helper()
			began := time.Now()
			h.eventually(t, func() bool { return h.clockError(t, "clock").Abs() < time.Second })
			t.Logf("right after %s", time.Since(began).Round(100*time.Millisecond))
		}
		right()
		for _, change := range []string{"2 hours", "-2 hours"} {
			h.guestSays(t, "clock", "date -s @$(date -d '"+change+"' +%s)")
			right()
		}
		pid := h.vm(t, "clock").PID
		// Longer than it takes until the guest is asked for its clock.
		h.guestSays(t, "clock", "date -s @$(date -d '2 hours' +%s)")
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		right()
		if got := h.guestSays(t, "clock", "systemctl is-system-running"); got != "running" {
			t.Errorf("systemd says %q", got)
		}
	})
}
