package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newVMSSHConfig(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-config VM...",
		Short: "Print how other programs reach VMs by SSH",
		Long: `Print a configuration for OpenSSH with a section for each VM, so that ssh, scp,
sftp, rsync, git, Ansible or an editor reach it by its name. It stays right
until the VM is deleted.

Give it to a program with -F, which reads nothing else then, or include it in
~/.ssh/config, above all sections: for a setting, ssh takes the first value.`,
		Example: `  banger vm ssh-config web >web.ssh
  ssh -F web.ssh web uptime
  scp -F web.ssh report.txt web:/root/
  sftp -F web.ssh web
  rsync -e 'ssh -F web.ssh' -a ./site/ web:/srv/site/`,
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd.Context(), args, func(name string) error {
				return runVMSSHConfig(cmd.Context(), e, name)
			})
		},
	}
}

func runVMSSHConfig(ctx context.Context, e *env, name string) error {
	target, err := findSSHTarget(ctx, e, name)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(e.stdout, target.config()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
