package vm

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guard"
	"banger/internal/guest"
)

const (
	// clockInterval is how often a guest's clock is compared with the host's.
	clockInterval = 30 * time.Second
	// clockSamples is how often at most a guest is asked, for the shortest way.
	clockSamples = 5
	// clockTolerance is how far off a guest's clock may be, besides what isn't
	// known for the time that an answer takes; it is also how long that may take
	// for a guest not to be asked once more.
	clockTolerance = 50 * time.Millisecond
)

// followClock keeps a guest's clock at the host's, in the background: it is
// wrong after the host has slept, its clock was set, or the VMM stood still
// (docs/adr/0025). A call waits for a guest that stands still, so that its clock
// is right soon after it goes on.
func (i *instance) followClock() {
	guard.Go("keep a guest's clock", func() {
		client := guest.NewClient(i.machine.DialGuest)
		for i.ctx.Err() == nil {
			if err := correctClock(i.ctx, client.Clock); err != nil {
				i.manager.log.Debug("keep a guest's clock", "vm", i.name, "err", err)
			}
			select {
			case <-time.After(clockInterval):
			case <-i.jumped:
			case <-i.ctx.Done():
			}
		}
	})
}

// correctClock compares a guest's clock with the host's and has the guest
// correct it if it is surely off. What the guest says is of no other use.
func correctClock(ctx context.Context, call func(context.Context, guest.ClockParams) (guest.Clock, error)) error {
	var best clockSample
	for n := range clockSamples {
		began := time.Now()
		answer, err := call(ctx, guest.ClockParams{})
		if err != nil {
			return err
		}
		took := time.Since(began)
		if n == 0 || took < best.took {
			best = clockSample{took, answer, began.Add(took / 2)}
		}
		if took <= clockTolerance {
			break
		}
	}
	if !best.off() {
		return nil
	}
	_, err := call(ctx, guest.ClockParams{Set: &guest.ClockSetting{Uptime: best.answer.Uptime, Time: best.at.UTC()}})
	return err
}

// clockSample is a guest's clock as it was at a time of the host's, give or take
// half of what the answer took.
type clockSample struct {
	took   time.Duration
	answer guest.Clock
	at     time.Time
}

func (s clockSample) off() bool {
	return s.at.Sub(s.answer.Time).Abs() > s.took/2+clockTolerance
}

// watchClock has all guests' clocks compared after each jump of the host's, be
// it that somebody has set it or that the host has slept.
func (m *Manager) watchClock() {
	timer, err := newJumpTimer()
	if err != nil {
		m.log.Warn("jumps of the host's clock are noticed late", "err", err)
		return
	}
	stop := context.AfterFunc(m.life, guard.Func("end the watch of the clock", func() { _ = timer.Close() }))
	defer stop()
	for m.life.Err() == nil {
		if err := awaitJump(timer); err != nil {
			if m.life.Err() == nil {
				m.log.Warn("jumps of the host's clock are noticed late", "err", err)
			}
			return
		}
		m.mu.Lock()
		for _, inst := range m.instances() {
			select {
			case inst.jumped <- struct{}{}:
			default: // it is about to look anyway
			}
		}
		m.mu.Unlock()
	}
}

// newJumpTimer returns a timer that never expires but is cancelled whenever the
// real-time clock jumps, timerfd_create(2).
func newJumpTimer() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 33}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("timerfd_settime", err)
	}
	return os.NewFile(uintptr(fd), "jumps of the clock"), nil
}

// awaitJump waits for the next jump of the clock.
func awaitJump(timer *os.File) error {
	var expirations [8]byte
	_, err := timer.Read(expirations[:])
	if errors.Is(err, unix.ECANCELED) {
		return nil
	}
	if err == nil {
		err = errors.New("the timer has expired")
	}
	return err
}
