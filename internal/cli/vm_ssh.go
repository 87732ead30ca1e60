package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// sshFlagsWithValue are the options of ssh(1) that take a value.
const sshFlagsWithValue = "BbcDEeFIiJLlmOoPpQRSWw"

func newVMSSH(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh [SSH FLAGS] VM [SSH FLAGS] [COMMAND [ARG...]]",
		Short: "Log in to a running VM with OpenSSH",
		Long: `Log in to a running VM with OpenSSH's ssh. All of its flags work. The connection
goes through bangerd; no network and no sshd is needed in the VM.

No configuration of ssh is read: what it says for every host, such as to forward
your agent or a port, is not meant for a VM whose code you don't trust. Read one
with -F FILE; even then it takes -A to forward the agent. For other programs see
"banger vm ssh-config".`,
		Example: `  banger vm ssh web
  banger vm ssh web -L 8080:localhost:80 -N
  banger vm ssh -A web git push
  rsync -e 'banger vm ssh' -a ./site/ web:/srv/site/
  GIT_SSH_COMMAND='banger vm ssh' git pull web:/root/repo`,
		DisableFlagParsing: true,
		ValidArgsFunction:  completeVMs(e, 1, api.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
				return cmd.Help()
			}
			return runVMSSH(cmd.Context(), e, args)
		},
	}
}

func runVMSSH(ctx context.Context, e *env, args []string) error {
	before, rest := splitSSHFlags(args)
	if len(rest) == 0 {
		return api.Errorf(api.CodeInvalid, "banger vm ssh: missing the name of the VM").
			WithHint("use it like this: banger vm ssh VM [SSH FLAGS] [COMMAND]")
	}
	name := rest[0]
	after, command := splitSSHFlags(rest[1:])
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return api.Errorf(api.CodeHost, "there is no ssh on this host").
			WithHint("install it: apt install openssh-client; banger vm exec -t %s -- bash -l works without", shellQuote(name))
	}
	target, err := findSSHTarget(ctx, e, name)
	if err != nil {
		return err
	}
	if len(command) == 0 || e.stdinTTY { // there may be a terminal
		target.terminfo = hostTerminfo()
	}
	argv := target.argv(slices.Concat(before, after), command)
	if err := e.exec(ssh, argv, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", ssh, err)
	}
	return nil
}

// splitSSHFlags cuts args before the first that is no flag of ssh or a flag's
// value.
func splitSSHFlags(args []string) (flags, rest []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return args[:i], args[i+1:]
		}
		if len(arg) < 2 || arg[0] != '-' {
			return args[:i], args[i:]
		}
		// In a group such as -NL, only the last can have its value outside.
		at := strings.IndexAny(arg[1:], sshFlagsWithValue)
		if at >= 0 && at == len(arg)-2 {
			i++
		}
	}
	return args, nil
}
