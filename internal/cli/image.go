package cli

import "github.com/spf13/cobra"

func newImage(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Get, make and delete images",
		Long: `Get, make and delete images: the root filesystems that VMs start from. An image
is never written; what a VM writes is on its own disk.`,
	}
	makeGroup(cmd)
	show, discard := imageNoun.commands(e)
	cmd.AddCommand(show...)
	cmd.AddCommand(newImagePull(e), newImageImport(e), newImageRegister(e), newImageBuild(e), newImageCommit(e))
	cmd.AddCommand(discard...)
	return cmd
}
