package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImageList(e *env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images",
		Long: `List the images on this host, or with --catalog those that could be pulled by
their name alone.`,
		Example: `  banger image list
  banger image list --catalog
  banger image list --json | jq -r '.[] | select(.used_by == []).name'`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runImageList(cmd.Context(), e, o) },
	}
	o.addFlags(cmd)
	return cmd
}

func runImageList(ctx context.Context, e *env, o listOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.catalog {
		return runCatalog(ctx, e, o, api.ListCatalogImages, true)
	}
	images, err := call(ctx, e, api.ListImages, api.None{})
	if err != nil {
		return err
	}
	heading := []string{"NAME", "DISTRO", "KERNEL", "ORIGIN", "DISK", "AGE", "USED BY"}
	err = printList(e, o, images, heading, func(img api.Image) []string {
		return []string{
			img.Name, dash(img.Distro), dash(img.Kernel), dash(string(img.Origin)), dashBytes(img.DiskBytes),
			age(img.Created, e.now()), users(img.UsedBy),
		}
	}, "there are no images yet; see what could be pulled with: banger image list --catalog")
	for _, img := range images {
		noticeDamaged(e, o, "image", img.Name, img.Damaged)
	}
	return err
}
