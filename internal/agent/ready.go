package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"banger/internal/guest"
)

// readyPoll is the pause before systemd is asked for its state, in case that its
// message was missed. It grows up to readyPollLast: on a busy host each question
// costs an emulated guest many seconds of its boot.
const (
	readyPoll     = 15 * time.Second
	readyPollLast = 2 * time.Minute
)

// readiness is when and how the boot finished.
type readiness struct {
	done  chan struct{} // closed when the boot has finished
	state guest.Ready   // valid once done
	err   error         // valid once done
}

// watchBoot waits in the background for the init system to finish. The end of
// booted tells that systemd says so (see notifications), which costs nothing
// while the guest is busy booting.
func watchBoot(systemd bool, booted io.ReadCloser, log *slog.Logger) *readiness {
	r := &readiness{done: make(chan struct{})}
	if !systemd {
		r.state = guest.Ready{State: "none", Uptime: uptime()}
		close(r.done)
		return r
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		defer booted.Close()
		if _, err := io.Copy(io.Discard, booted); err != nil {
			log.Warn("wait for systemd", "err", err)
		}
	}()
	go func() {
		defer close(r.done)
		r.state, r.err = awaitSystemd(runSystemctl, told, log)
	}()
	return r
}

// awaitSystemd asks systemd for its state, when told ends and every now and then,
// until the boot has finished.
func awaitSystemd(systemctl systemctl, told <-chan struct{}, log *slog.Logger) (guest.Ready, error) {
	unlisted, pause := 0, readyPoll
	for {
		select {
		case <-told:
			told, pause = nil, readyPoll // and poll from now on
		case <-time.After(pause):
			pause = min(2*pause, readyPollLast)
		}
		at := uptime()
		state, err := systemState(systemctl)
		state.Uptime = at
		if state.State == "" && err == nil {
			continue
		}
		if errors.Is(err, errUnlisted) {
			log.Warn("systemd has finished booting", "err", err)
			if unlisted++; unlisted < listTries {
				continue
			}
			err = nil // it has booted, whatever failed
		}
		return state, err
	}
}

// errUnlisted says that a unit has failed, and that it isn't known which one.
var errUnlisted = errors.New("list failed units")

// listTries is how often systemd is asked for the units that failed. In a guest
// that is busy booting it may not answer in time.
const listTries = 3

// systemctl runs systemctl(1) and returns its output.
type systemctl func(args ...string) (string, error)

// systemState asks systemd for its state, systemctl(1) is-system-running. The
// state is "" while the boot goes on. With errUnlisted it is complete but for the
// names of what failed.
func systemState(systemctl systemctl) (guest.Ready, error) {
	out, err := systemctl("is-system-running") // fails unless it is running
	switch state := strings.TrimSpace(out); state {
	case "running":
		return guest.Ready{State: state}, nil
	case "degraded":
		failed, err := systemctl("list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full")
		if err != nil {
			return guest.Ready{State: state}, fmt.Errorf("%w: %w", errUnlisted, err)
		}
		units := firstFields(failed)
		return guest.Ready{State: state, Failed: units[:min(len(units), guest.MaxFailed)]}, nil
	case "maintenance":
		return guest.Ready{}, errors.New("the guest's systemd is in its rescue or emergency mode; see the VM's console log")
	case "stopping":
		return guest.Ready{}, errors.New("the guest is shutting down")
	case "initializing", "starting", "offline", "unknown", "":
		return guest.Ready{}, nil
	default:
		return guest.Ready{}, fmt.Errorf("ask systemd for its state: it says %q (%w)", state, err)
	}
}

// firstFields returns the first word of each line.
func firstFields(text string) []string {
	var first []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			first = append(first, fields[0])
		}
	}
	return first
}

// systemctlTimeout is far more than systemctl takes in a busy emulated guest.
const systemctlTimeout = time.Minute

func runSystemctl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), systemctlTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).Output()
	return string(out), err
}
