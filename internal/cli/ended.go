package cli

import (
	"context"
	"errors"
	"time"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/session"
)

// A VM that goes down takes its sessions with it, in one of two ways: commands
// are killed, or the connection breaks before bangerd has seen the VMM end.
const (
	endTimeout = time.Second
	endPause   = 50 * time.Millisecond
)

// tellKilled says that the VM goes down, if that may be what killed a command:
// its exit status alone, say 137, doesn't tell.
func tellKilled(ctx context.Context, e *env, vm api.VM, result session.Result) {
	if result.ExitCode <= 128 {
		return
	}
	ctx, cancel := endContext(ctx)
	defer cancel()
	if why, _ := whyDown(ctx, e, vm); why != "" { // without bangerd there is nothing to tell
		e.notice("banger: %s while the command ran", why)
	}
}

// explainLost names the VM's end, or a bangerd that doesn't answer, as the cause
// of a lost connection, if it is.
func explainLost(ctx context.Context, e *env, vm api.VM, err error) error {
	var lost *session.LostError
	if !errors.As(err, &lost) {
		return err
	}
	whole := ctx
	ctx, cancel := endContext(ctx)
	defer cancel()
	for {
		why, unknown := whyDown(ctx, e, vm)
		if errors.Is(unknown, api.ErrTimeout) {
			return explainSilence(whole, e, err)
		}
		if unknown != nil {
			return err
		}
		if why != "" {
			return &session.LostError{Cause: errors.New(why)}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(endPause):
		}
	}
}

// explainSilence finds out whether it is bangerd that is silent, and not the guest.
func explainSilence(ctx context.Context, e *env, err error) error {
	c, failed := e.client()
	if failed != nil {
		return err
	}
	if silent := c.CheckAlive(client.WithoutStart(ctx)); silent != nil {
		return &session.LostError{Cause: silent}
	}
	return err
}

// endContext bounds the question for a VM's end. A bangerd that has ended itself
// isn't started for it.
func endContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(client.WithoutStart(context.WithoutCancel(ctx)), endTimeout)
}

// whyDown tells that a VM, which ran, doesn't any more or is about to end; "" if
// it runs.
func whyDown(ctx context.Context, e *env, vm api.VM) (string, error) {
	now, err := call(ctx, e, api.GetVM, api.None{}, vm.ID)
	switch {
	case errors.Is(err, api.ErrNotFound):
		return "VM " + vm.Name + " was deleted", nil
	case err != nil:
		return "", err
	case now.State == api.StateStopping, now.State == api.StateStopped && now.Reason == "":
		return "VM " + vm.Name + " was stopped", nil
	case now.State == api.StatePaused:
		return "VM " + vm.Name + " is paused (" + now.Reason + ")", nil
	case now.State == api.StateStopped:
		return "VM " + vm.Name + " ended (" + now.Reason + ")", nil
	case vm.StartedAt != nil && now.StartedAt != nil && !now.StartedAt.Equal(*vm.StartedAt):
		return "VM " + vm.Name + " was started anew", nil
	}
	return "", nil
}
