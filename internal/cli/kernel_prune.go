package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelPrune(e *env) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete unused kernels that can be had again",
		Long: `Delete the kernels that no image and no VM uses and that can be pulled or built
again. Asks first, unless there is --force.`,
		Example: `  banger kernel prune --dry-run
  banger kernel prune --force`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPrune(cmd.Context(), e, api.PruneKernelsRoute, o)
		},
	}
	o.addFlags(e, cmd)
	return cmd
}
