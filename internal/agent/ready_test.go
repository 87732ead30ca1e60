package agent

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
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
