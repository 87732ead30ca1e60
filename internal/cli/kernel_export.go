package cli

import (
	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Write a kernel's bundle to a file",
		Long: `Write a kernel's bundle, which kernel pull reads, to a file. Prints its checksum
and name as sha256sum does.`,
		Example: `  banger kernel export mine -o mine.tar.zst >mine.tar.zst.sha256
  sha256sum -c mine.tar.zst.sha256`,
		Args:              args(1, 1, "NAME"),
		ValidArgsFunction: completeNames(e, 1, kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), e, api.ExportKernelRoute, o, args[0])
		},
	}
	o.addFlags(e, cmd)
	return cmd
}
