package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMStop(e *env) *cobra.Command {
	var force bool
	cmd := newVMChange(e, "stop", helpText{
		short: "Stop running VMs",
		long: `Stop running VMs: ask the guest to shut down, and end it if it doesn't in time.
Their disks stay. With --force they are ended at once, also where bangerd can't
reach the VMM; another command that creates, starts or stops them is cut short.
A VM that wasn't created to its end is then gone.`,
		example: "  banger vm stop web db",
	}, func(ctx context.Context, name string) (api.VM, error) {
		return runVMStop(ctx, e, name, force)
	}, api.StateRunning, api.StateStarting, api.StateStopping, api.StatePaused, api.StateUnknown)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end them at once, like pulling the plug")
	return cmd
}

func runVMStop(ctx context.Context, e *env, name string, force bool) (api.VM, error) {
	vm, err := stream(ctx, e, api.StopVMRoute, api.StopVM{Force: force}, name)
	if err != nil {
		return vm, err
	}
	e.done("stopped %s", vm.Name)
	return vm, nil
}
