package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMDelete(e *env) *cobra.Command {
	var force bool
	var out outcome
	cmd := &cobra.Command{
		Use:               "delete VM...",
		Aliases:           []string{"rm"},
		Short:             "Delete VMs and all they own",
		Long:              "Delete VMs with their disks and logs. A running one is refused without --force.",
		Example:           "  banger vm delete web db",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return deleteEach(cmd.Context(), e, out, "vm", args, func(name string) error {
				return runVMDelete(cmd.Context(), e, name, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete them even if they are running")
	out.addFlags(e, cmd, "a list of what was deleted", "their names")
	return cmd
}

func runVMDelete(ctx context.Context, e *env, name string, force bool) error {
	_, err := call(ctx, e, api.DeleteVMRoute, api.DeleteVM{Force: force}, name)
	return err
}
