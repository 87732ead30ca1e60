package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStop(e *env) *cobra.Command {
	var out outcome
	cmd := &cobra.Command{
		Use:               "stop",
		Short:             "Stop bangerd",
		Long:              "Stop bangerd. VMs go on running; sessions in them, and work in progress, end.",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := runDaemonStop(cmd.Context(), e); err != nil {
				return err
			}
			return out.printDaemon(cmd.Context(), e)
		},
	}
	out.addFlags(e, cmd, "bangerd's status", "")
	return cmd
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
		e.done("stopped bangerd")
	} else {
		e.done("bangerd was not running")
	}
	return nil
}
