package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonRestart(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "restart",
		Short:             "Stop bangerd and start the installed one",
		Long:              "Stop bangerd, whatever its version, and start the installed one. VMs go on.",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDaemonRestart(cmd.Context(), e) },
	}
}

func runDaemonRestart(ctx context.Context, e *env) error {
	if err := runDaemonStop(ctx, e); err != nil {
		return err
	}
	return runDaemonStart(ctx, e)
}
