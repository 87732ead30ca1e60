package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelDelete(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:               "delete NAME...",
		Aliases:           []string{"rm"},
		Short:             "Delete kernels",
		Long:              "Delete kernels that no image and no VM uses.",
		Example:           "  banger kernel delete generic-6.1",
		Args:              args(1, -1, "NAME..."),
		ValidArgsFunction: completeNames(e, -1, kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return deleteEach(cmd.Context(), e, out, "kernel", args, func(name string) (string, error) {
				return name, runDelete(cmd.Context(), e, api.DeleteKernelRoute, name)
			})
		},
	}
	out.addFlags(e, cmd, "a list of what was deleted", "their names")
	return cmd
}
