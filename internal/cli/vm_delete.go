package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newVMDelete(e *env) *cobra.Command {
	var force bool
	var out outcome
	cmd := &cobra.Command{
		Use:               "delete VM...",
		Aliases:           []string{"rm"},
		Short:             "Delete VMs and all they own",
		Long:              "Delete VMs with their disks and logs. A running one is refused without --force,\nwhich also cuts a command short that creates, starts or stops it.",
		Example:           "  banger vm delete web db",
		Args:              args(1, -1, "VM..."),
		ValidArgsFunction: completeVMs(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return deleteEach(cmd.Context(), e, out, "vm", args, func(word string) (string, error) {
				return runVMDelete(cmd.Context(), e, word, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete them even if they are running")
	out.addFlags(e, cmd, "a list of what was deleted", "their names")
	return cmd
}

// runVMDelete deletes a VM and returns its name.
func runVMDelete(ctx context.Context, e *env, word string, force bool) (string, error) {
	vm, err := call(ctx, e, api.GetVM, api.None{}, word)
	if err != nil {
		return "", err
	}
	_, err = call(ctx, e, api.DeleteVMRoute, api.DeleteVM{Force: force}, vm.ID)
	return vm.Name, err
}
