package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMRestart(e *env) *cobra.Command {
	var force bool
	cmd := newVMChange(e, "restart", helpText{
		short:   "Stop VMs and start them again",
		long:    "Stop VMs and start them again. One that is stopped already is just started.",
		example: "  banger vm restart web",
	}, func(ctx context.Context, name string) (api.VM, error) {
		return runVMRestart(ctx, e, name, force)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop them at once, like pulling the plug")
	return cmd
}

func runVMRestart(ctx context.Context, e *env, name string, force bool) (api.VM, error) {
	vm, err := call(ctx, e, api.GetVM, api.None{}, name)
	if err != nil {
		return vm, err
	}
	if vm.State != api.StateStopped && vm.State != api.StateCreated {
		if vm, err = runVMStop(ctx, e, vm.ID, force); err != nil {
			return vm, err
		}
	}
	return runVMStart(ctx, e, vm.ID, false)
}
