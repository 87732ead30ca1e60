package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMRestart(e *env) *cobra.Command {
	var force bool
	var out outcome
	cmd := &cobra.Command{
		Use:               "restart VM...",
		Short:             "Stop VMs and start them again",
		Long:              "Stop VMs and start them again. One that is stopped already is just started.",
		Example:           "  banger vm restart web",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeEach(cmd.Context(), e, out, args, func(name string) (api.VM, error) {
				return runVMRestart(cmd.Context(), e, name, force)
			}, nameOfVM)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop them at once, like pulling the plug")
	out.addFlags(e, cmd, "a list of the VMs", "their names")
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
