package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMStop(e *env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "stop VM...",
		Short: "Stop running VMs",
		Long: `Stop running VMs: ask the guest to shut down, and end it if it doesn't in time.
Their disks stay. With --force they are ended at once, also while another
command waits for the guest, and where bangerd can't reach the VMM.`,
		Example:           "  banger vm stop web db",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1, api.StateRunning, api.StateStarting, api.StateStopping, api.StatePaused, api.StateUnknown),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd.Context(), args, func(name string) error {
				return runVMStop(cmd.Context(), e, name, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end them at once, like pulling the plug")
	return cmd
}

func runVMStop(ctx context.Context, e *env, name string, force bool) error {
	vm, err := stream(ctx, e, api.StopVMRoute, api.StopVM{Force: force}, name)
	if err != nil {
		return err
	}
	e.notice("stopped %s", vm.Name)
	return nil
}
