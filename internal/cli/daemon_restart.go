package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonRestart(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:               "restart",
		Short:             "Stop bangerd and start the installed one",
		Long:              "Stop bangerd, whatever its version, and start the installed one. VMs go on.",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := runDaemonRestart(cmd.Context(), e); err != nil {
				return err
			}
			return out.printDaemon(cmd.Context(), e)
		},
	}
	out.addFlags(e, cmd, "bangerd's status", "")
	return cmd
}

func runDaemonRestart(ctx context.Context, e *env) error {
	if err := runDaemonStop(ctx, e); err != nil {
		return err
	}
	return runDaemonStart(ctx, e)
}
