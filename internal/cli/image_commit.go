package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImageCommit(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:   "commit VM NAME",
		Short: "Make an image of a VM",
		Long: `Make an image of what a VM has on its disk now, and print the image's name. The
VM stays as it is.`,
		Example: "  banger image commit web web-ready",
		Args:    args(2, 2, "VM NAME"),
		// The second word is a new name.
		ValidArgsFunction: completeVMs(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImageCommit(cmd.Context(), e, args[0], args[1], out)
		},
	}
	out.addFlags(e, cmd, "the image", "its name")
	return cmd
}

func runImageCommit(ctx context.Context, e *env, vm, name string, out outcome) error {
	img, err := stream(ctx, e, api.CommitImageRoute, api.CommitImage{VM: vm, Name: name})
	if err != nil {
		return err
	}
	return out.printMade(e, img.Name, img)
}
