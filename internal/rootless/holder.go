package rootless

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"banger/internal/api"
	"banger/internal/paths"
	"banger/internal/undo"
)

// hold is the holder's program, which is also what ps shows of it. It reads
// from a pipe whose other end it has itself, so for ever; a shell needs less
// memory than a copy of bangerd, and unlike sleep(1) says what it is for.
const hold = "read -r _ # keeps the namespaces of banger's VMs"

// ensure returns the state of namespaces that exist, have a way out, and are
// looked after by a keeper that runs the program keep.
func ensure(ctx context.Context, layout paths.Layout, log *slog.Logger, keep []string) (_ state, err error) {
	s, err := loadState(layout)
	if err != nil {
		return s, err
	}
	resolvConf, err := wantedResolvConf()
	if err != nil {
		return s, err
	}
	u := undo.New()
	defer func() { err = u.Finish(err) }()
	// Of an earlier start, maybe of an older version. It goes on until another has
	// taken its place; meanwhile it does nothing, as the lock is held.
	former := s.Keeper
	if !s.Holder.alive() {
		if err := s.Pasta.end(ctx); err != nil { // it served namespaces that are lost
			return s, err
		}
		if s, err = makeNamespaces(ctx, layout, u); err != nil {
			return s, err
		}
		log.InfoContext(ctx, "made the namespaces for VMs", "holder", s.Holder.PID)
	}
	forwards := resolvConf != ""
	if s.Forwards != forwards {
		if err := s.Pasta.end(ctx); err != nil {
			return s, err
		}
	}
	if !s.Pasta.alive() {
		s.Forwards = forwards
		pasta, err := connect(ctx, s.Holder, forwards)
		switch {
		case errors.Is(err, errNoNetwork):
			log.WarnContext(ctx, "VMs have no network until the host has one", "err", err)
		case err != nil:
			return s, err
		default:
			s.Pasta = pasta
			if err := s.save(layout); err != nil {
				return s, errors.Join(err, pasta.end(ctx))
			}
		}
	}
	if err := mountResolvConf(ctx, layout, s.Holder, resolvConf); err != nil {
		return s, err
	}
	if s.Keeper, err = startKeeper(ctx, layout, s, keep); err != nil {
		return s, err
	}
	u.Add("end the keeper of the namespaces", s.Keeper.end)
	if err := s.save(layout); err != nil {
		return s, err
	}
	if err := former.end(ctx); err != nil {
		log.WarnContext(ctx, "the former keeper of the namespaces ends when it notices the new one", "err", err)
	}
	return s, nil
}

// makeNamespaces starts a holder and records it.
func makeNamespaces(ctx context.Context, layout paths.Layout, u *undo.Stack) (state, error) {
	if err := firstProblem(ctx); err != nil {
		return state{}, err
	}
	holder, err := startHolder()
	if err != nil {
		return state{}, err
	}
	u.Add("end the holder of the namespaces", func(ctx context.Context) error {
		return errors.Join(holder.end(ctx), os.Remove(layout.NamespaceHolder()))
	})
	s := state{Holder: holder}
	if err := s.save(layout); err != nil {
		return s, err
	}
	return s, mapIDs(ctx, holder.PID)
}

// startHolder starts the holder in new namespaces; no ids are mapped yet.
func startHolder() (process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return process{}, fmt.Errorf("start the holder of the namespaces: %w", err)
	}
	defer r.Close()
	defer w.Close()
	// Not CommandContext: it must outlive everything here.
	cmd := exec.Command("/bin/sh", "-c", hold) //nolint:noctx // it outlives this process
	cmd.Stdin = r
	cmd.ExtraFiles = []*os.File{w}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
	}
	if err := cmd.Start(); err != nil {
		return process{}, api.Errorf(api.CodeHost, "make namespaces for VMs: %v", err).WithHint("see banger doctor")
	}
	holder, err := identify(cmd.Process.Pid)
	if err != nil {
		return process{}, errors.Join(fmt.Errorf("start the holder of the namespaces: %w", err), cmd.Process.Kill())
	}
	return holder, nil
}

// mapIDs makes the user root in the process's user namespace, and his range of
// subordinate ids all the others. Only the setuid programs of package uidmap
// may do the latter.
func mapIDs(ctx context.Context, pid int) error {
	for _, m := range []struct {
		program, file string
		own           int
	}{
		{"newuidmap", subUIDFile, os.Getuid()},
		{"newgidmap", subGIDFile, os.Getgid()},
	} {
		program, err := lookPath(m.program)
		if err != nil {
			return err
		}
		ids, err := findRange(m.file)
		if err != nil {
			return err
		}
		args := []string{strconv.Itoa(pid),
			"0", strconv.Itoa(m.own), "1",
			"1", strconv.FormatUint(uint64(ids.first), 10), strconv.FormatUint(uint64(ids.count), 10)}
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return api.Errorf(api.CodeHost, "map the ids of the user namespace: %v: %s", err, strings.TrimSpace(string(out))).
				WithHint("see banger doctor")
		}
	}
	return nil
}
