package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMStart(e *env) *cobra.Command {
	var timing bool
	var out outcome
	cmd := &cobra.Command{
		Use:               "start VM...",
		Short:             "Start stopped VMs",
		Long:              "Start stopped VMs and wait until they are ready.",
		Example:           "  banger vm start web db",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1, api.StateCreated, api.StateStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeEach(cmd.Context(), e, out, args, func(name string) (api.VM, error) {
				return runVMStart(cmd.Context(), e, name, timing)
			}, nameOfVM)
		},
	}
	cmd.Flags().BoolVar(&timing, "timing", false, "print what each phase took")
	out.addFlags(e, cmd, "a list of the VMs", "their names")
	return cmd
}

func runVMStart(ctx context.Context, e *env, name string, timing bool) (api.VM, error) {
	vm, err := stream(ctx, e, api.StartVMRoute, api.StartVM{}, name)
	if err != nil {
		return vm, err
	}
	if timing {
		printTiming(e, vm.Timing)
	}
	e.done("started %s", vm.Name)
	return vm, nil
}
