package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newImageRegister(e *env) *cobra.Command {
	var req api.RegisterImage
	var out outcome
	cmd := &cobra.Command{
		Use:   "register --name NAME --rootfs FILE",
		Short: "Use a root filesystem of your own in place",
		Long: `Make an image of an ext4 file without copying it. Banger never writes or deletes
the file; don't change it while VMs use it. Prints the image's name.`,
		Example:           "  banger image register --name base --rootfs /srv/base.ext4",
		Args:              args(0, 0, "--name NAME --rootfs FILE"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needFlags(cmd, "name", "rootfs"); err != nil {
				return err
			}
			return runImageRegister(cmd.Context(), e, req, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "name of the image")
	f.StringVar(&req.Rootfs, "rootfs", "", "file with the root filesystem, ext4")
	addKernelFlag(cmd, e, &req.Kernel)
	out.addFlags(e, cmd, "the image", "its name")
	return cmd
}

func runImageRegister(ctx context.Context, e *env, req api.RegisterImage, out outcome) error {
	rootfs, err := existing(req.Rootfs, false)
	if err != nil {
		return err
	}
	req.Rootfs = rootfs
	img, err := call(ctx, e, api.RegisterImageRoute, req)
	if err != nil {
		return err
	}
	return out.printMade(e, img.Name, img)
}
