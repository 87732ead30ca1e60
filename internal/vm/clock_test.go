package vm

import (
	"context"
	"errors"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// guestClock is a guest's clock that is off, behind a slow way.
type guestClock struct {
	mu    sync.Mutex
	epoch time.Time // when its kernel started
	off   time.Duration
	slow  []time.Duration // how long each of the next answers takes
	asked int
	set   int
	fail  error
}

func newGuestClock(off time.Duration) *guestClock {
	return &guestClock{epoch: time.Now().Add(-time.Hour), off: off}
}

func (g *guestClock) call(_ context.Context, p guest.ClockParams) (guest.Clock, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.slow) > 0 {
		time.Sleep(g.slow[0]) // on the way there: the worst case
		g.slow = g.slow[1:]
	}
	if g.fail != nil {
		return guest.Clock{}, g.fail
	}
	now := time.Now()
	if p.Set == nil {
		g.asked++
	} else {
		g.set++
		g.off = p.Set.Time.Add(now.Sub(g.epoch) - p.Set.Uptime).Sub(now)
	}
	return guest.Clock{Uptime: now.Sub(g.epoch), Time: now.Add(g.off)}, nil
}

func (g *guestClock) state() (off time.Duration, asked, set int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.off, g.asked, g.set
}

func TestCorrectClock(t *testing.T) {
	const late = 4 * clockTolerance
	for name, test := range map[string]struct {
		clock       *guestClock
		set         int
		most, asked int
	}{
		"right":              {newGuestClock(0), 0, 1, 1},
		"within the limits":  {newGuestClock(clockTolerance / 2), 0, 1, 1},
		"behind":             {newGuestClock(-2 * time.Hour), 1, 1, 1},
		"ahead":              {newGuestClock(2 * time.Hour), 1, 1, 1},
		"a guest that stood": {&guestClock{epoch: time.Now(), off: -time.Minute, slow: []time.Duration{late}}, 1, 2, 2},
		"a slow way":         {&guestClock{epoch: time.Now(), off: -time.Minute, slow: []time.Duration{late, late, late, late, late}}, 1, 5, 5},
		"perhaps right":      {&guestClock{epoch: time.Now(), off: clockTolerance / 2, slow: []time.Duration{late, late, late, late, late}}, 0, 5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			if err := correctClock(t.Context(), test.clock.call); err != nil {
				t.Fatal(err)
			}
			off, asked, set := test.clock.state()
			if set != test.set || asked < test.asked || asked > clockSamples {
				t.Errorf("asked %d times, set %d times", asked, set)
			}
			if off.Abs() > late {
				t.Errorf("it is %s off", off)
			}
		})
	}
	failing := newGuestClock(0)
	failing.fail = errors.New("not now")
	if err := correctClock(t.Context(), failing.call); !errors.Is(err, failing.fail) {
		t.Errorf("got %v", err)
	}
}

// Whatever a guest says of its clock, it is asked a few times and told the
// host's time.
func TestClockOfAHostileGuest(t *testing.T) {
	for _, said := range []guest.Clock{
		{}, {Uptime: math.MinInt64}, {Uptime: math.MaxInt64, Time: time.Unix(math.MaxInt64, 0)}, {Time: time.Unix(math.MinInt64, 0)},
	} {
		asked, set := 0, 0
		err := correctClock(t.Context(), func(_ context.Context, p guest.ClockParams) (guest.Clock, error) {
			if p.Set == nil {
				asked++
				return said, nil
			}
			set++
			if off := time.Since(p.Set.Time).Abs(); off > time.Minute || p.Set.Uptime != said.Uptime {
				t.Errorf("told %v", p.Set)
			}
			return said, nil
		})
		if err != nil || asked > clockSamples || set != 1 {
			t.Errorf("asked %d times, set %d times: %v", asked, set, err)
		}
	}
}

// TestClockIsFollowed: from the boot on, and by the next bangerd, and after a
// jump of the host's clock.
func TestClockIsFollowed(t *testing.T) {
	w := newWorld(t)
	clock := newGuestClock(-2 * time.Hour)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnClock = func(p guest.ClockParams) guest.Clock {
			answer, _ := clock.call(context.Background(), p)
			return answer
		}
		return agent.Serve
	})
	right := func(sets int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			off, _, set := clock.state()
			if off.Abs() < time.Second && set == sets {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the clock is %s off, after %d corrections", off, set)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wrong := func() {
		clock.mu.Lock()
		defer clock.mu.Unlock()
		clock.off = 2 * time.Hour
	}
	vm := w.create(t, api.CreateVM{Name: "clock"})
	right(1)
	wrong()
	w.restart(t)
	right(2)
	wrong()
	w.mu.Lock()
	w.slots[vm.ID].inst.jumped <- struct{}{}
	w.mu.Unlock()
	right(3)
}

// TestJumpTimer: nothing but a jump wakes it. A test can't let the host's clock
// jump, so that this is what the kernel promises: the timer stays silent.
func TestJumpTimer(t *testing.T) {
	timer, err := newJumpTimer()
	if err != nil {
		t.Fatal(err)
	}
	if err := timer.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := awaitJump(timer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := timer.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- awaitJump(timer) }()
	if err := timer.Close(); err != nil && !errors.Is(err, unix.ECANCELED) {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a closed timer is a jump")
	}
}
