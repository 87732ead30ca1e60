package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImageDelete(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete images",
		Long: `Delete images that no VM uses. Of one that was registered only banger's record
goes, never your file.`,
		Example:           "  banger image delete app tools",
		Args:              args(1, -1, "NAME..."),
		ValidArgsFunction: completeNames(e, -1, imageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return deleteEach(cmd.Context(), e, out, "image", args, func(name string) (string, error) {
				return name, runDelete(cmd.Context(), e, api.DeleteImageRoute, name)
			})
		},
	}
	out.addFlags(e, cmd, "a list of what was deleted", "their names")
	return cmd
}

// runDelete deletes one image or kernel.
func runDelete(ctx context.Context, e *env, route api.Route[api.None, api.None], name string) error {
	_, err := call(ctx, e, route, api.None{}, name)
	return err
}
