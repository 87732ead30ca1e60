package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStart(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "start",
		Short:             "Start bangerd unless it runs",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDaemonStart(cmd.Context(), e) },
	}
}

func runDaemonStart(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	e.notice("bangerd is running")
	return nil
}
