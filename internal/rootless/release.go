package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"banger/internal/paths"
)

// Release gives the namespaces up: it ends keeper, pasta and holder, and the
// kernel removes the rest with this process. It does nothing if another
// process is in them, for instance a VM or a bangerd that is just starting. It
// can be called inside and outside, and again.
func Release(ctx context.Context, layout paths.Layout) error {
	lock, err := lockNamespaces(ctx, layout)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := loadState(layout)
	if err != nil {
		return err
	}
	if s.Holder.alive() {
		used, err := inUse(s.Holder)
		if used || err != nil {
			return err
		}
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	for _, file := range []string{layout.NamespaceHolder(), layout.NamespaceResolvConf(), layout.NamespaceHostDial()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the namespaces: %w", err)
		}
	}
	return nil
}

// inUse tells whether a process other than the holder and this one is in the
// holder's network namespace. pasta isn't: it has a namespace of its own, and
// only sockets in this one.
func inUse(holder process) (bool, error) {
	netns := func(pid int) (string, error) {
		return os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", "net"))
	}
	want, err := netns(holder.PID)
	if err != nil {
		return false, fmt.Errorf("look at the namespaces: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, fmt.Errorf("look for processes in the namespaces: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == holder.PID || pid == os.Getpid() {
			continue
		}
		// Processes that can't be looked into, or are gone, aren't ours.
		if got, err := netns(pid); err == nil && got == want {
			return true, nil
		}
	}
	return false, nil
}
