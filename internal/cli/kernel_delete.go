package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME...",
		Aliases:           []string{"rm"},
		Short:             "Delete kernels",
		Long:              "Delete kernels that no image and no VM uses.",
		Example:           "  banger kernel delete generic-6.1",
		Args:              args(1, -1, "NAME..."),
		ValidArgsFunction: completeNames(e, -1, kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd.Context(), args, func(name string) error {
				return runDelete(cmd.Context(), e, api.DeleteKernelRoute, name)
			})
		},
	}
}
