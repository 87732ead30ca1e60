package agent

import (
	"testing"
	"time"

	"banger/internal/guest"
)

// A setting is as good late as it was early.
func TestClockError(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	set := guest.ClockSetting{Uptime: time.Hour, Time: noon}
	for _, late := range []time.Duration{0, time.Second, 90 * time.Second} {
		if got := clockError(set, time.Hour+late, noon.Add(late-2*time.Hour)); got != 2*time.Hour {
			t.Errorf("%s late, a clock that is two hours behind is %s behind", late, got)
		}
	}
	if got := clockError(set, time.Hour, noon.Add(time.Minute)); got != -time.Minute {
		t.Errorf("a clock that is ahead is %s behind", got)
	}
}
