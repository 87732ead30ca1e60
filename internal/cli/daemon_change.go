package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// newDaemonChange is a command that starts or stops bangerd.
func newDaemonChange(e *env, use string, help helpText, change func(ctx context.Context, e *env) error) *cobra.Command {
	var out outcome
	cmd := help.command(use)
	cmd.Args = args(0, 0, "")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := change(cmd.Context(), e); err != nil {
			return err
		}
		return out.printDaemon(cmd.Context(), e)
	}
	out.addFlags(e, cmd, "bangerd's status", "")
	return cmd
}
