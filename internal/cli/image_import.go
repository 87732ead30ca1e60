package cli

import "github.com/spf13/cobra"

func newImageImport(e *env) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make an image of a bundle or an archive in a file",
		Long: `Unpack an image's bundle, as image export writes it, from a file, or make an
image of an archive as docker save and podman save write it. Prints the image's
name.`,
		Example: "  banger image import app.tar.zst --name app2",
		Args:    args(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := existing(args[0], false)
			if err != nil {
				return err
			}
			return runImagePull(cmd.Context(), e, o, file)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the image on this host (default: what the file calls it)")
	addKernelFlag(cmd, e, &o.kernel)
	f.Var(&o.sha256, "sha256", "checksum that the bundle must have")
	o.out.addFlags(e, cmd, "the image", "its name")
	return cmd
}
