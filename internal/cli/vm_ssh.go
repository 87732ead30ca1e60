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
		Long: `Log in to a running VM with OpenSSH's ssh. All of its flags work, and what is
in your ~/.ssh/config for the VM's name. The connection goes through bangerd; no
network and no sshd is needed in the VM.`,
		Example: `  banger vm ssh web
  banger vm ssh web -L 8080:localhost:80 -N
  banger vm ssh -A web git push`,
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
	vm, err := call(ctx, e, api.GetVM, api.None{}, name)
	if err != nil {
		return err
	}
	access, err := call(ctx, e, api.GetAccess, api.None{}, vm.ID)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find banger's own path: %w", err)
	}
	// ssh takes the first value that it is given for anything: the user's own
	// flags go before ours.
	argv := slices.Concat([]string{"ssh"}, before, after, sshOptions(self, vm, access), []string{"--", vm.Name}, command)
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

// sshOptions makes ssh reach the VM through "banger vm dial" and trust nothing
// but the VM's own host key.
func sshOptions(self string, vm api.VM, access api.Access) []string {
	options := []string{
		"ProxyCommand=" + percent(shellQuote(self)) + " vm dial " + vm.ID,
		"HostKeyAlias=" + access.HostAlias,
		"UserKnownHostsFile=" + configQuote(access.KnownHosts),
		"GlobalKnownHostsFile=none",
		"StrictHostKeyChecking=yes",
		"CheckHostIP=no",
		"UpdateHostKeys=no",
		"IdentityFile=" + configQuote(access.KeyPath),
		"IdentitiesOnly=yes",
	}
	var argv []string
	for _, o := range options {
		argv = append(argv, "-o", o)
	}
	return append(argv, "-l", access.User)
}

// percent keeps ssh from expanding tokens such as %h.
func percent(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// configQuote makes a path one value of ssh_config(5).
func configQuote(path string) string { return `"` + percent(path) + `"` }
