package agent

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// busySystemd has booted with a failed unit, and can't list it at first.
func busySystemd(failures int) systemctl {
	return func(args ...string) (string, error) {
		if args[0] == "is-system-running" {
			return "degraded\n", errors.New("exit status 1")
		}
		if failures--; failures >= 0 {
			return "", errors.New("connection timed out")
		}
		return "a.service loaded failed failed A\n", nil
	}
}

// A guest that is busy booting isn't asked all the time, and its end is noticed
// also without a message.
func TestSystemdIsAskedWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const boot = 10 * time.Minute
		start, asked := time.Now(), 0
		state, err := awaitSystemd(func(...string) (string, error) {
			asked++
			if time.Since(start) < boot {
				return "starting\n", errors.New("exit status 1")
			}
			return "running\n", nil
		}, nil, slog.New(slog.DiscardHandler))
		if err != nil || state.State != "running" || asked > 10 || time.Since(start) > boot+readyPollLast {
			t.Errorf("got %+v, %v after %v and %d questions", state, err, time.Since(start), asked)
		}
	})
}

// A guest has booted, even if systemd is too busy to say what failed.
func TestUnitsThatCantBeListed(t *testing.T) {
	for name, test := range map[string]struct {
		failures int
		want     []string
	}{
		"once":   {1, []string{"a.service"}},
		"always": {1000, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := make(chan struct{})
				close(told)
				state, err := awaitSystemd(busySystemd(test.failures), told, slog.New(slog.DiscardHandler))
				if err != nil || state.State != "degraded" || !slices.Equal(state.Failed, test.want) {
					t.Errorf("got %+v, %v", state, err)
				}
			})
		})
	}
}
