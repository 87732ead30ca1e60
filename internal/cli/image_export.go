package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImageExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Write an image's bundle to a file",
		Long: `Write an image's bundle, which image import and image pull read, to a file.
Prints its checksum and name as sha256sum does.`,
		Example: `  banger image export app -o app.tar.zst >app.tar.zst.sha256
  sha256sum -c app.tar.zst.sha256`,
		Args:              args(1, 1, "NAME"),
		ValidArgsFunction: completeNames(e, 1, imageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), e, api.ExportImageRoute, o, args[0])
		},
	}
	o.addFlags(e, cmd)
	return cmd
}
