package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStart(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:               "start",
		Short:             "Start bangerd unless it runs",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := runDaemonStart(cmd.Context(), e); err != nil {
				return err
			}
			return out.printDaemon(cmd.Context(), e)
		},
	}
	out.addFlags(e, cmd, "bangerd's status", "")
	return cmd
}

func runDaemonStart(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	e.done("bangerd is running")
	return nil
}
