package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImagePrune(e *env) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete unused images that can be had again",
		Long: `Delete the images that no VM uses and that can be pulled or built again, and
what was kept of downloads. Asks first, unless there is --force.`,
		Example: `  banger image prune --dry-run
  banger image prune --force`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPrune(cmd.Context(), e, api.PruneImagesRoute, o)
		},
	}
	o.addFlags(e, cmd)
	return cmd
}
