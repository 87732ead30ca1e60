// Package openssh gives a guest an OpenSSH server: it installs one by the
// guest's package manager, sets it up for logins by key, and sees that it runs.
// It is for images that were made for containers, which have none. The agent's
// own SSH server depends on nothing of this.
package openssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"banger/internal/agent/cgroup"
)

// Files in the guest.
const (
	// marker is there once a server has been installed and set up.
	marker = "/var/lib/banger/openssh-installed"
	// unfinished is there while a package manager is at work: a server that it
	// left behind may lack its other half.
	unfinished = "/var/lib/banger/openssh-installing"
	// logFile has all that the tries said.
	logFile = "/var/log/banger-openssh.log"
)

// tryLimit bounds one try.
const tryLimit = 10 * time.Minute

// Guest is the system to work on.
type Guest struct {
	// Root is the guest's root directory, "/" but in tests.
	Root string
	// Systemd tells that systemd is PID 1; OpenRC is looked for.
	Systemd bool
	// Env is what programs get besides the defaults: the image's own PATH, a
	// proxy.
	Env map[string]string
	// Groups has a control group for each program; nil leaves them in this
	// process's own.
	Groups *cgroup.Tree
	// Run runs a program of the guest's to its end; nil means Exec.
	Run func(ctx context.Context, argv, env []string, output io.Writer) error
	// Console gets a line for each line that a program writes.
	Console io.Writer
}

// Ensure makes one try to have a server run. It tells the console and the log
// file what it does and what went wrong; the error says the latter again. After
// a try that failed, Ensure is meant to be called again at the next boot.
func (g *Guest) Ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	out, closeLog := g.openLog()
	defer closeLog()
	t := &try{Guest: g, out: out, exec: g.Run}
	if t.exec == nil {
		t.exec = func(ctx context.Context, argv, env []string, output io.Writer) error {
			return Exec(ctx, g.Groups, argv, env, output)
		}
	}
	err := t.ensure(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the try took longer than %s: %w", tryLimit, err)
	}
	if err != nil {
		t.say("no OpenSSH server: %v; banger's own SSH works, and this is tried again at the next boot", err)
	}
	return err
}

// openLog returns where output goes. A log file that can't be written is done
// without.
func (g *Guest) openLog() (w *lineWriter, closeLog func()) {
	w = newLineWriter(g.Console, "banger-openssh: ")
	name := g.path(logFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return w, w.flush
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return w, w.flush
	}
	w.copyTo = f
	return w, func() { w.flush(); _ = f.Close() }
}

// path is where a file of the guest is.
func (g *Guest) path(name string) string { return filepath.Join(g.Root, name) }

func (g *Guest) exists(name string) bool {
	_, err := os.Stat(g.path(name))
	return err == nil
}

// try is one try.
type try struct {
	*Guest
	out  *lineWriter
	exec func(ctx context.Context, argv, env []string, output io.Writer) error
}

func (t *try) say(format string, args ...any) { _, _ = fmt.Fprintf(t.out, format+"\n", args...) }

func (t *try) ensure(ctx context.Context) error {
	if t.exists(marker) && t.server() != "" {
		return t.keepRunning(ctx)
	}
	if !t.exists("/bin/sh") {
		return errors.New("the image has no /bin/sh, so nothing can be installed")
	}
	if t.server() == "" || t.exists(unfinished) {
		if err := t.install(ctx); err != nil {
			return err
		}
	}
	if err := t.configure(); err != nil {
		return err
	}
	if err := t.makeHostKeys(ctx); err != nil {
		return err
	}
	if err := t.start(ctx); err != nil {
		return err
	}
	if err := t.mark(marker); err != nil {
		return err
	}
	t.say("the OpenSSH server runs")
	return nil
}

// keepRunning does what is left to do at a later boot: keys for an image made of
// a VM, which has none, and the start where no init system does that.
func (t *try) keepRunning(ctx context.Context) error {
	made := !t.hasHostKeys()
	if err := t.makeHostKeys(ctx); err != nil {
		return err
	}
	if !made && t.initSystem() != noInit {
		return nil
	}
	return t.start(ctx)
}

// install has the package manager install a server.
func (t *try) install(ctx context.Context) error {
	m, path, err := t.findManager()
	if err != nil {
		return err
	}
	if err := t.mark(unfinished); err != nil {
		return err
	}
	t.say("installing an OpenSSH server with %s", m.name)
	for _, step := range m.steps {
		err := t.run(ctx, append([]string{cmp.Or(step.program, path)}, step.args...))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !step.optional {
			return fmt.Errorf("%s failed (%w), perhaps for want of a network: see "+logFile, m.name, err)
		}
	}
	if t.server() == "" {
		return fmt.Errorf("%s installed no sshd", m.name)
	}
	if err := os.Remove(t.path(unfinished)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mark makes an empty file.
func (t *try) mark(name string) error {
	if err := os.MkdirAll(filepath.Dir(t.path(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(t.path(name), nil, 0o644)
}

// server is the path of the image's SSH server, "" without one.
func (t *try) server() string {
	for _, name := range []string{"/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"} {
		if t.isProgram(name) {
			return name
		}
	}
	return ""
}

func (g *Guest) isProgram(name string) bool {
	info, err := os.Stat(g.path(name))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
