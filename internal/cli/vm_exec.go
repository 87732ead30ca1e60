package cli

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger/internal/api"
	"banger/internal/session"
)

// execOptions are the flags of vm exec.
type execOptions struct {
	tty         bool
	interactive bool // as docker's; the input is always passed on
	dir         string
	user        string
	env         envFlag
	agent       bool
}

func newVMExec(e *env) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] VM [--] COMMAND [ARG...]",
		Short: "Run a command in a running VM",
		Long: `Run a command in a running VM. Its exit status becomes banger's, and its input,
output and signals are yours. It starts in the VM's workspace, if it has one,
else in the directory and as the user that the image's configuration names, else
in root's home. No shell is involved: use sh -c for one.

Flags go before the VM's name.`,
		Example: `  banger vm exec web -- uname -a
  banger vm exec -t web top
  banger vm exec -w /etc web -- sh -c 'cat *.conf | wc -l'
  banger vm exec -A web -- git push
  tar c . | banger vm exec web -- tar x -C /srv`,
		Args:              args(2, -1, "[flags] VM -- COMMAND [ARG...]"),
		ValidArgsFunction: completeVMs(e, 1, api.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVMExec(cmd.Context(), e, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the VM's name is the command's
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "pass the input on (always done)")
	f.StringVarP(&o.dir, "cwd", "w", "", "directory to start in (default: the workspace, the image's, or the home directory)")
	f.StringVarP(&o.user, "user", "u", "", "user to run it as (default: the image's, but root where there is a workspace)")
	addForwardAgent(f, &o.agent)
	f.VarP(&o.env, "env", "e", "set a variable; without =VALUE, the value it has here (repeatable)")
	return cmd
}

func runVMExec(ctx context.Context, e *env, o execOptions, name string, command []string) error {
	if command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return api.Errorf(api.CodeInvalid, "there is no command after --")
	}
	vm, err := call(ctx, e, api.GetVM, api.None{}, name)
	if err != nil {
		return err
	}
	return enter(ctx, e, vm, session.Options{
		Command: command,
		Dir:     cmp.Or(o.dir, commandDir(vm)),
		User:    cmp.Or(o.user, commandUser(vm)),
		Env:     o.env.values,
		TTY:     o.tty,

		ForwardAgent: forwardsAgent(e, o.agent),
	})
}

func addForwardAgent(f *pflag.FlagSet, value *bool) {
	f.BoolVarP(value, "forward-agent", "A", false, "let it use your SSH agent, for git push and signed commits (so can all of the VM meanwhile)")
}

// forwardsAgent says so if there is no agent to forward.
func forwardsAgent(e *env, asked bool) bool {
	if asked && os.Getenv("SSH_AUTH_SOCK") == "" {
		e.notice("banger: there is no SSH agent to forward: SSH_AUTH_SOCK is not set")
		return false
	}
	return asked
}
