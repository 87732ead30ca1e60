package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStop(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "stop",
		Short:             "Stop bangerd",
		Long:              "Stop bangerd. VMs go on running; sessions in them, and work in progress, end.",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDaemonStop(cmd.Context(), e) },
	}
}

func runDaemonStop(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	was, err := c.Stop(ctx)
	if err != nil {
		return err
	}
	if was {
		e.notice("stopped bangerd")
	} else {
		e.notice("bangerd was not running")
	}
	return nil
}
