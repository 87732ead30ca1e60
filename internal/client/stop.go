package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// stopTimeout is how long a bangerd may take to end: it lets the requests in
// progress undo their work.
const stopTimeout = 40 * time.Second

// Stop ends the running bangerd, whatever its version, and returns when it is
// gone; running VMs go on. It reports false when none was running.
func (c *Client) Stop(ctx context.Context) (was bool, err error) {
	ctx = WithoutStart(ctx)
	if !c.answers(ctx) {
		return false, nil
	}
	// Nobody starts another one meanwhile; isGone would be in its way.
	unlock, err := c.lockStart(ctx)
	if err != nil {
		return true, err
	}
	defer unlock()
	running, err := Call(ctx, c, api.GetVersion, api.None{})
	if err == nil {
		_, err = Call(ctx, c, api.Shutdown, api.None{})
	}
	if err != nil {
		return true, err
	}
	c.Close()
	gone, err := poll(ctx, stopTimeout, c.isGone)
	if err != nil {
		return true, c.explain(ctx, err)
	}
	if !gone {
		return true, api.Errorf(api.CodeTimeout, "bangerd (pid %d) has not ended for %v", running.PID, stopTimeout).
			WithHint("end it with: kill -9 %d (running VMs go on)", running.PID)
	}
	return true, nil
}

// isGone reports whether nobody holds the daemon's lock. The process itself
// may linger as somebody's unreaped child, so its pid tells nothing.
func (c *Client) isGone() (bool, error) {
	f, err := os.Open(c.layout.DaemonLock())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // unlocks
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return err == nil, err
}
