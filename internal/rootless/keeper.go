package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/paths"
)

const (
	// readyFD is where a keeper finds the pipe by which it tells that it has
	// begun, or why it can't.
	readyFD = 3
	ready   = "ready"
	// keeperTimeout bounds a keeper's start.
	keeperTimeout = 20 * time.Second
	// The first and the longest pause before something that failed is tried
	// again.
	firstRetry, longestRetry = time.Second, time.Minute
)

// startKeeper starts the program keep, which calls Keep, and returns when VMs
// can't reach the host any more.
func startKeeper(ctx context.Context, layout paths.Layout, s state, keep []string) (process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return process{}, fmt.Errorf("start the keeper of the namespaces: %w", err)
	}
	defer r.Close()
	env, err := environ(layout, s)
	if err != nil {
		return process{}, errors.Join(err, w.Close())
	}
	// Not CommandContext: it must outlive everything here.
	cmd := exec.Command(keep[0], keep[1:]...) //nolint:noctx // it outlives this process
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = os.Stderr // the daemon's log
	cmd.Dir = "/"
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return process{}, fmt.Errorf("start the keeper of the namespaces: %w", err)
	}
	keeper, err := awaitKeeper(ctx, cmd.Process.Pid, r)
	if err != nil {
		return process{}, errors.Join(err, cmd.Process.Kill(), reap(cmd))
	}
	return keeper, nil
}

// reap waits for a child that was killed.
func reap(cmd *exec.Cmd) error {
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// awaitKeeper reads what a keeper says of its start.
func awaitKeeper(ctx context.Context, pid int, r *os.File) (process, error) {
	if err := r.SetReadDeadline(time.Now().Add(keeperTimeout)); err != nil {
		return process{}, fmt.Errorf("start the keeper of the namespaces: %w", err)
	}
	stop := context.AfterFunc(ctx, guard.Func("end the wait for the keeper", func() { _ = r.SetReadDeadline(time.Unix(1, 0)) }))
	defer stop()
	said, err := io.ReadAll(io.LimitReader(r, 4<<10))
	switch {
	case err != nil:
		return process{}, fmt.Errorf("wait for the keeper of the namespaces: %w", err)
	case string(said) != ready:
		return process{}, api.Errorf(api.CodeHost, "keep VMs from the host's own addresses: %s", strings.TrimSpace(string(said)))
	}
	return identify(pid)
}

// keeper looks after namespaces from the outside.
type keeper struct {
	layout paths.Layout
	log    *slog.Logger
	block  []string // the program that keeps VMs from the addresses that follow
	self   process
	holder process
	pasta  process // zero: there was no network to connect to
	stop   context.CancelFunc
	// moved gets a value when the host's network has changed, so that it may
	// be worth while to start pasta.
	moved chan struct{}
}

// errReplaced says that the namespaces are another keeper's matter now.
var errReplaced = errors.New("the namespaces have another keeper")

// Keep is what a keeper does: it keeps VMs from the host's addresses, also from
// those that the host gets later, and starts pasta again when it has ended. It
// runs in the host's network namespace, as the user, until the namespaces are
// gone or ctx ends. block is the program that Keep runs inside, with all of
// the host's addresses as further arguments; it lets nothing reach them.
//
// Meanwhile dial connects DialHost's callers to the host.
//
// It is a process of its own, since bangerd is inside and VMs outlive bangerd.
func Keep(ctx context.Context, layout paths.Layout, log *slog.Logger, block []string, dial Dial) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	unix.CloseOnExec(readyFD)
	report := os.NewFile(readyFD, "ready")
	k := &keeper{layout: layout, log: log, block: block, stop: stop, moved: make(chan struct{}, 1)}
	changes, err := k.begin(ctx)
	if err == nil {
		err = serveHostDial(ctx, layout, dial)
	}
	said := ready
	if err != nil {
		said = err.Error()
	}
	_, writeErr := report.WriteString(said)
	if err = errors.Join(err, writeErr, report.Close()); err != nil {
		return err
	}
	guard.Go("follow the host's addresses", func() { defer stop(); k.followHost(ctx, changes) })
	guard.Go("watch pasta", func() { defer stop(); k.mindPasta(ctx) })
	k.holder.wait(ctx)
	return nil
}

// begin subscribes first and looks afterwards, so that no address is missed.
// Whoever has started this process holds the lock meanwhile.
func (k *keeper) begin(ctx context.Context) (<-chan struct{}, error) {
	s, err := loadState(k.layout)
	if err != nil {
		return nil, err
	}
	if k.self, err = identify(os.Getpid()); err != nil {
		return nil, err
	}
	k.holder, k.pasta = s.Holder, s.Pasta
	changes, err := k.subscribe(ctx)
	if err != nil {
		return nil, err
	}
	return changes, k.blockHost(ctx)
}

// subscribe returns a channel that gets a value after changes of the host's
// addresses. It is closed when some may have been missed.
func (k *keeper) subscribe(ctx context.Context) (<-chan struct{}, error) {
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan netlink.AddrUpdate)
	err := netlink.AddrSubscribeWithOptions(updates, ctx.Done(), netlink.AddrSubscribeOptions{
		ErrorCallback: func(error) { cancel() }, // more came than the socket could hold
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("follow the host's addresses: %w", err)
	}
	changes := make(chan struct{}, 1)
	guard.Go("follow the host's addresses", func() {
		defer cancel()
		defer close(changes)
		for range updates {
			poke(changes)
		}
	})
	return changes, nil
}

// poke leaves a value in the channel if it has none yet.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// followHost blocks the host's addresses anew after each change of them.
func (k *keeper) followHost(ctx context.Context, changes <-chan struct{}) {
	block := func() error {
		return k.locked(ctx, func(state) error { return k.blockHost(ctx) })
	}
	for {
		for range changes {
			k.insist(ctx, nil, block)
			poke(k.moved)
		}
		if ctx.Err() != nil {
			return
		}
		k.insist(ctx, nil, func() (err error) {
			changes, err = k.subscribe(ctx)
			return err
		})
		k.insist(ctx, nil, block)
	}
}

// blockHost keeps VMs from all addresses that the host has now.
func (k *keeper) blockHost(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	addrs, err := hostAddrs()
	if err != nil {
		return err
	}
	if err := runInside(ctx, k.holder, slices.Concat(k.block, addrs)...); err != nil {
		return fmt.Errorf("keep VMs from the host's own addresses: %w", err)
	}
	return nil
}

// mindPasta starts pasta again whenever it has ended: at once, but not over
// and over if it ends every time.
func (k *keeper) mindPasta(ctx context.Context) {
	for pause := time.Duration(0); ; pause = longer(pause) {
		began := time.Now()
		if k.pasta.wait(ctx); ctx.Err() != nil {
			return
		}
		if k.pasta.PID != 0 {
			k.log.WarnContext(ctx, "pasta has ended, so that VMs have no network; it is started again", "pid", k.pasta.PID)
		}
		if time.Since(began) > longestRetry {
			pause = 0
		}
		sleep(ctx, pause, k.moved)
		k.insist(ctx, k.moved, func() error { return k.reconnect(ctx) })
		if ctx.Err() != nil {
			return
		}
		k.log.InfoContext(ctx, "VMs have a network again", "pasta", k.pasta.PID)
	}
}

// reconnect starts pasta, unless somebody else has. The lock isn't held while
// pasta starts, which may take long: an address that appears is blocked
// meanwhile.
func (k *keeper) reconnect(ctx context.Context) error {
	var before state
	if err := k.locked(ctx, func(s state) error { before = s; return nil }); err != nil {
		return err
	}
	if before.Pasta.alive() {
		k.pasta = before.Pasta
		return nil
	}
	pasta, err := connect(ctx, k.holder, before.Forwards)
	if err != nil {
		return err
	}
	err = k.locked(ctx, func(s state) error {
		if s.Pasta != before.Pasta || s.Forwards != before.Forwards {
			return errors.New("another pasta was started meanwhile")
		}
		s.Pasta = pasta
		return s.save(k.layout)
	})
	if err != nil {
		return errors.Join(err, pasta.end(ctx))
	}
	k.pasta = pasta
	return nil
}

// locked calls f while nobody else changes the namespaces.
func (k *keeper) locked(ctx context.Context, f func(state) error) error {
	lock, err := lockNamespaces(ctx, k.layout)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := loadState(k.layout)
	if err != nil {
		return err
	}
	if s.Keeper != k.self || s.Holder != k.holder {
		return errReplaced
	}
	return f(s)
}

// insist tries until it succeeds or ctx ends, sooner if there is a wake-up.
func (k *keeper) insist(ctx context.Context, wakeUp <-chan struct{}, try func() error) {
	said := ""
	for pause := firstRetry; ; pause = longer(pause) {
		err := try()
		if errors.Is(err, errReplaced) {
			k.stop()
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			k.log.WarnContext(ctx, "it is tried again until it succeeds", "err", err)
		}
		sleep(ctx, pause, wakeUp)
	}
}

// longer is the pause after a pause that didn't help.
func longer(pause time.Duration) time.Duration { return min(max(2*pause, firstRetry), longestRetry) }

func sleep(ctx context.Context, d time.Duration, wakeUp <-chan struct{}) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-wakeUp:
	case <-time.After(d):
	}
}
