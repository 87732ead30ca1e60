package agent

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// maxSlew is how far off a clock may be to be brought right by running it a bit
// faster or slower, which takes half an hour for a second. It is set when it is
// further off.
const maxSlew = time.Second

// Of timex.h, adjtimex(2).
const (
	adjOffsetSingleshot = 0x8001 // slew by this, as adjtime(3) does
	staUnsync           = 0x0040 // nobody in the guest keeps the clock right
)

// clock answers for the guest's clock, and corrects it.
func (w *worker) clock(c *call) (any, error) {
	var p guest.ClockParams
	if err := c.params(&p); err != nil {
		return nil, err
	}
	if p.Set != nil {
		if err := correctClock(*p.Set); err != nil {
			return nil, err
		}
	}
	return guest.Clock{Uptime: uptime(), Time: time.Now()}, nil
}

func correctClock(set guest.ClockSetting) error {
	var kernel unix.Timex
	if _, err := unix.Adjtimex(&kernel); err != nil {
		return fmt.Errorf("read the state of the clock: %w", err)
	}
	synchronised := kernel.Status&staUnsync == 0
	off := clockError(set, uptime(), time.Now())
	switch {
	case off.Abs() > maxSlew:
		now := unix.NsecToTimespec(set.Time.Add(uptime() - set.Uptime).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	case !synchronised: // else a time service of the guest's keeps it
		slew := unix.Timex{Modes: adjOffsetSingleshot, Offset: off.Microseconds()}
		if _, err := unix.Adjtimex(&slew); err != nil {
			return fmt.Errorf("slew the clock: %w", err)
		}
	}
	return nil
}

// clockError is how far the clock, which shows now at this uptime, is behind.
func clockError(set guest.ClockSetting, uptime time.Duration, now time.Time) time.Duration {
	return set.Time.Add(uptime - set.Uptime).Sub(now)
}
