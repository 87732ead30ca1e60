package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMStart(e *env) *cobra.Command {
	var timing bool
	cmd := newVMChange(e, "start", helpText{
		short:   "Start stopped VMs",
		long:    "Start stopped VMs and wait until they are ready.",
		example: "  banger vm start web db",
	}, func(ctx context.Context, name string) (api.VM, error) {
		return runVMStart(ctx, e, name, timing)
	}, api.StateCreated, api.StateStopped)
	cmd.Flags().BoolVar(&timing, "timing", false, "print what each phase took")
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
