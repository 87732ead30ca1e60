package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMStart(e *env) *cobra.Command {
	var timing bool
	cmd := &cobra.Command{
		Use:               "start VM...",
		Short:             "Start stopped VMs",
		Long:              "Start stopped VMs and wait until they are ready.",
		Example:           "  banger vm start web db",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1, api.StateCreated, api.StateStopped),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd.Context(), args, func(name string) error {
				return runVMStart(cmd.Context(), e, name, timing)
			})
		},
	}
	cmd.Flags().BoolVar(&timing, "timing", false, "print what each phase took")
	return cmd
}

func runVMStart(ctx context.Context, e *env, name string, timing bool) error {
	vm, err := stream(ctx, e, api.StartVMRoute, api.StartVM{}, name)
	if err != nil {
		return explainKept(err)
	}
	if timing {
		printTiming(e, vm.Timing)
	}
	e.notice("started %s", vm.Name)
	return nil
}
