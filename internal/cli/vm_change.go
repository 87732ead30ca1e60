package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// newVMChange is a command that brings each of some VMs into another state. Those
// in the states from are completed, all if there are none.
func newVMChange(e *env, verb string, help helpText, change func(ctx context.Context, name string) (api.VM, error), from ...api.State) *cobra.Command {
	var out outcome
	cmd := help.command(verb + " VM...")
	cmd.Args = args(1, -1, "VM...")
	cmd.ValidArgsFunction = completeVMs(e, -1, from...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return changeEach(cmd.Context(), e, out, args, func(name string) (api.VM, error) {
			return change(cmd.Context(), name)
		}, nameOfVM)
	}
	out.addFlags(e, cmd, "a list of the VMs", "their names")
	return cmd
}
