package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelImport(e *env) *cobra.Command {
	var req api.ImportKernel
	var out outcome
	cmd := &cobra.Command{
		Use:   "import --name NAME --image FILE --modules DIR",
		Short: "Copy a kernel of your own",
		Long: `Make a kernel of one that you have built or that your host has: its image, an
ELF vmlinux or a vmlinuz, and the directory with its modules. Both are copied.
Prints the kernel's name.

The kernel needs virtio (block, network, console), overlayfs and ext4, built in
or as modules.`,
		Example: `  v=$(uname -r)
  banger kernel import --name own --image /boot/vmlinuz-$v \
    --modules /lib/modules/$v`,
		Args:              args(0, 0, "--name NAME --image FILE --modules DIR"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needFlags(cmd, "name", "image", "modules"); err != nil {
				return err
			}
			return runKernelImport(cmd.Context(), e, req, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "name of the kernel")
	f.StringVar(&req.Image, "image", "", "the kernel's image, such as /boot/vmlinuz-VERSION")
	f.StringVar(&req.Modules, "modules", "", "directory with its modules, such as /lib/modules/VERSION")
	out.addFlags(e, cmd, "the kernel", "its name")
	if err := cmd.MarkFlagDirname("modules"); err != nil {
		panic(err) // a flag that doesn't exist: a typo above
	}
	return cmd
}

func runKernelImport(ctx context.Context, e *env, req api.ImportKernel, out outcome) (err error) {
	if req.Image, err = existing(req.Image, false); err != nil {
		return err
	}
	if req.Modules, err = existing(req.Modules, true); err != nil {
		return err
	}
	k, err := stream(ctx, e, api.ImportKernelRoute, req)
	if err != nil {
		return err
	}
	return out.printMade(e, k.Name, k)
}
