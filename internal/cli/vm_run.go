package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/session"
)

const (
	// deleteTimeout bounds the delete at the end of vm run --rm. All its tries
	// take 7 s.
	deleteTimeout = 10 * time.Second
	// deleteTries is how often it is tried while bangerd dies, starts, or deletes
	// the VM by itself, with pauses that begin with deletePause and double.
	deleteTries = 8
	deletePause = 50 * time.Millisecond
)

// farewellTimeout bounds the question whether a VM still runs.
const farewellTimeout = 2 * time.Second

// runOptions are the flags of vm run and what it runs.
type runOptions struct {
	machine machineOptions
	rm      bool
	tty     bool
	agent   bool
	branch  string
	from    string
	leave   bool     // what isn't committed
	guest   string   // where PATH goes in the VM; "" for the default
	path    string   // "" in bare mode
	command []string // nil: an interactive session
	// entrypoint replaces the image's if the flag was given; "" is none.
	entrypoint    string
	ownEntrypoint bool
}

func newVMRun(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [PATH] [flags] [-- COMMAND [ARG...]]",
		Short: "Run a shell or a command in a new VM",
		Long: `Create a VM and run a login shell in it, or the command after --.

With a PATH, the git repository there is copied to /root/repo in the VM, or to
--guest-path: its tracked files, its untracked ones that git doesn't ignore, and
its history. The shell or command starts there. Of a directory that is no
repository, the files are copied, but for those that a .gitignore in it names.

With --branch the copy is on a new branch. What isn't committed goes along, also
to another commit (--from); what is in that commit's way is refused with a list,
and --leave-changes leaves all of it here.

With --with ./lib:/root/lib a further directory is copied, to /root/lib: a
repository likewise, of a directory inside of one the files that it doesn't
ignore, and of any other those that no .gitignore in it names. Without a path in
the VM it goes to /root, under its own name. With :ro behind it, the VM's
programs can't write there, unless one is root and undoes that.

The command's exit status becomes banger's, and its input, output and signals
are yours; a third Ctrl-C gives up on a command that ignores them. It gets a
terminal only with --tty. See "banger help exit-codes" for other statuses.

A command runs as the image's configuration says, like with docker: its
entrypoint goes before the command, which runs as its user in its directory (but
with a PATH as root in the repository). A shell is always root's.

With --host-port 5432 the VM reaches that port of the host's localhost at
host.banger.internal:5432, and nothing else of the host.

The VM stays when the shell or command has ended, unless there is --rm. A VM
that never became ready is kept even then, so that you can look at its log. One
with --rm is deleted, too, when bangerd was killed and starts again.

Sizes are given in powers of 1024: 512M, 2G, 1.5GiB.`,
		Example: `  banger vm run
  banger vm run ./repo
  banger vm run ./repo -- make test
  banger vm run --rm --env CI=1 ./repo -- ./script.sh
  banger vm run ./repo --with ../lib:/root/lib --with ./data:/srv/data:ro
  banger vm run ./repo --host-port 5432 -- make integration-test
  banger vm run ./repo --branch fix-login --from origin/main
  banger vm run --image app --entrypoint '' -- sh -c 'id; pwd'`,
		Args:              func(cmd *cobra.Command, args []string) error { return o.parseArgs(args, cmd.ArgsLenAtDash()) },
		ValidArgsFunction: completeDir,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.ownEntrypoint = cmd.Flags().Changed("entrypoint")
			return runVMRun(cmd, e, o)
		},
	}
	o.machine.addFlags(cmd, e)
	f := cmd.Flags()
	f.BoolVar(&o.rm, "rm", false, "delete the VM when the shell or command has ended")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	addForwardAgent(f, &o.agent)
	f.StringVar(&o.entrypoint, "entrypoint", "", "program to put before the command instead of the image's entrypoint; '' for none")
	f.StringVar(&o.guest, "guest-path", "", "where the repository goes in the VM (default: /root/repo)")
	f.StringVar(&o.branch, "branch", "", "check out a new branch of this name in the VM (needs a PATH)")
	f.StringVar(&o.from, "from", "", "where the new branch starts (default: HEAD); uncommitted work goes along")
	f.BoolVar(&o.leave, "leave-changes", false, "leave what isn't committed on the host (needs --branch)")
	return cmd
}

// parseArgs tells PATH from COMMAND; dash is how many arguments came before
// "--", -1 without one.
func (o *runOptions) parseArgs(args []string, dash int) error {
	before := args
	if dash >= 0 {
		before, o.command = args[:dash], args[dash:]
		if len(o.command) == 0 {
			return api.Errorf(api.CodeInvalid, "there is no command after --")
		}
	}
	if len(before) > 1 {
		return api.Errorf(api.CodeInvalid, "vm run takes one PATH, but got %q and %q", before[0], before[1]).
			WithHint("a command goes after --, like this: banger vm run %s -- %s", shellQuote(before[0]), shellQuote(before[1]))
	}
	if o.leave && o.branch == "" {
		return api.Errorf(api.CodeInvalid, "--leave-changes needs --branch: it says what is left out of that branch")
	}
	if len(before) == 0 {
		switch {
		case o.branch != "":
			return api.Errorf(api.CodeInvalid, "--branch needs the PATH of a repository")
		case o.guest != "":
			return api.Errorf(api.CodeInvalid, "--guest-path needs the PATH of a repository")
		case o.from != "":
			return api.Errorf(api.CodeInvalid, "--from needs --branch and the PATH of a repository")
		}
		return nil
	}
	if o.from != "" && o.branch == "" {
		return api.Errorf(api.CodeInvalid, "--from needs --branch: it says where that branch starts")
	}
	return o.setPath(before[0])
}

// setPath makes the path absolute, since bangerd is elsewhere. Whether it is a
// repository is found out there.
func (o *runOptions) setPath(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "resolve %s: %v", path, err)
	}
	info, err := os.Stat(abs)
	if errors.Is(err, os.ErrNotExist) || (err == nil && !info.IsDir()) {
		return api.Errorf(api.CodeInvalid, "%s is not a directory", path).
			WithHint("a command goes after --, like this: banger vm run -- %s", shellQuote(path))
	}
	if err != nil {
		return api.Errorf(api.CodeInvalid, "look at %s: %v", path, err)
	}
	o.path = abs
	return nil
}

func runVMRun(cmd *cobra.Command, e *env, o runOptions) (err error) {
	ctx := cmd.Context()
	req, err := o.machine.request(cmd)
	if err != nil {
		return err
	}
	if o.path != "" {
		req.Workspace = &api.Workspace{Path: o.path, GuestPath: o.guest, Branch: o.branch, From: o.from, LeaveChanges: o.leave}
	}
	req.AutoDelete = o.rm
	vm, err := createVM(ctx, e, req, o.machine.timing)
	if err != nil {
		return err
	}
	if o.rm {
		defer func() { err = deleteAfter(ctx, e, vm, err) }()
	} else {
		defer farewell(ctx, e, vm)
	}
	options := o.session(e, vm)
	options.ForwardAgent = forwardsAgent(e, o.agent)
	return enter(ctx, e, vm, options)
}

// session says what to run in the VM, and how.
func (o *runOptions) session(e *env, vm api.VM) session.Options {
	command := o.command
	if o.ownEntrypoint && o.entrypoint != "" {
		command = append([]string{o.entrypoint}, command...)
	} else if command != nil && !o.ownEntrypoint {
		command = withEntrypoint(vm, command)
	}
	if command == nil {
		// A shell is interactive where there is somebody to type.
		return session.Options{Dir: workspaceDir(vm), TTY: o.tty || (e.stdinTTY && e.stdoutTTY)}
	}
	// A command gets its output unchanged unless a terminal was asked for.
	return session.Options{Command: command, Dir: commandDir(vm), User: commandUser(vm), TTY: o.tty}
}

// workspaceDir is where sessions start; "" means the home directory.
func workspaceDir(vm api.VM) string {
	if vm.Workspace == nil {
		return ""
	}
	return vm.Workspace.GuestPath
}

// enter runs a shell or a command in a VM and returns its exit status as an
// error, unless it is 0.
func enter(ctx context.Context, e *env, vm api.VM, o session.Options) error {
	access, err := call(ctx, e, api.GetAccess, api.None{}, vm.ID)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	o.Access = access
	o.Dial = func(ctx context.Context) (net.Conn, error) { return c.DialGuest(ctx, vm.ID, guest.PortSSH) }
	o.Stdin, o.Stdout, o.Stderr = e.stdin, e.rawStdout, e.rawStderr
	if o.TTY {
		o.Env = terminalEnv(vm, o.Env)
	}
	o.Booting = vm.State == api.StateStarting
	if len(o.Command) > 0 {
		o.Signals = e.signals.forwarded
	}
	result, err := e.runSession(ctx, o)
	if err != nil {
		return explainLost(ctx, e, vm, err)
	}
	if result.ExitCode != 0 {
		tellKilled(ctx, e, vm, result)
		return &exitError{result.ExitCode}
	}
	return nil
}

// deleteAfter deletes the VM of a run that has ended with err. Neither that
// end nor another signal keeps it from doing so.
func deleteAfter(ctx context.Context, e *env, vm api.VM, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	failed := deleteSurely(ctx, e, vm)
	if failed == nil {
		return err
	}
	hint := "delete it with: banger vm delete --force " + vm.Name
	failed = api.Errorf(api.AsError(failed).Code, "delete VM %s: %v", vm.Name, failed).WithHint("%s", hint)
	if err == nil {
		return failed
	}
	printError(e.stderr, failed) // the command's own status counts for more
	return err
}

// deleteSurely deletes a VM although bangerd may have been killed just now. The
// one that starts then deletes such VMs itself.
func deleteSurely(ctx context.Context, e *env, vm api.VM) error {
	for try, pause := 1, deletePause; ; try, pause = try+1, 2*pause {
		_, err := call(ctx, e, api.DeleteVMRoute, api.DeleteVM{Force: true}, vm.ID)
		if errors.Is(err, api.ErrNotFound) {
			return nil
		}
		again := errors.Is(err, api.ErrDaemon) || errors.Is(err, api.ErrConflict)
		if !again || try == deleteTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// farewell says how to come back to a VM that stays. It asks whether the VM
// still runs, as its user may have shut it down from inside.
func farewell(ctx context.Context, e *env, vm api.VM) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	vm, err := call(ctx, e, api.GetVM, api.None{}, vm.ID)
	if err != nil {
		return // it was deleted meanwhile, or what failed is being reported
	}
	name := shellQuote(vm.Name)
	if vm.State == api.StatePaused {
		e.notice("VM %s is paused: %s", name, vm.Reason)
		return
	}
	if vm.State != api.StateRunning && vm.State != api.StateStarting { // it may have rebooted
		e.notice("VM %s is %s:", name, vm.State)
		e.notice("  start it    banger vm start %s", name)
		e.notice("  delete it   banger vm delete %s", name)
		return
	}
	e.notice("VM %s is still running:", name)
	e.notice("  come back   banger vm ssh %s", name)
	e.notice("  stop it     banger vm stop %s", name)
	e.notice("  delete it   banger vm delete --force %s", name)
}
