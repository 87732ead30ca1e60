package cli

import "github.com/spf13/cobra"

func newKernel(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Get, import and delete kernels",
		Long: `Get, import and delete kernels: what VMs boot. Every image names the kernel that
its VMs boot; pulling an image pulls its kernel.`,
	}
	makeGroup(cmd)
	show, discard := kernelNoun.commands(e)
	cmd.AddCommand(show...)
	cmd.AddCommand(newKernelPull(e), newKernelImport(e))
	cmd.AddCommand(discard...)
	return cmd
}

// addKernelFlag adds --kernel-ref to a command that makes an image.
func addKernelFlag(cmd *cobra.Command, e *env, value *string) {
	cmd.Flags().StringVar(value, "kernel-ref", "", "kernel to boot it with (default: the image's own, or the catalog's default)")
	completeFlag(cmd, "kernel-ref", completeNames(e, -1, kernelNames, catalogKernelNames))
}
