package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStop(e *env) *cobra.Command {
	return newDaemonChange(e, "stop", helpText{
		short: "Stop bangerd",
		long:  "Stop bangerd. VMs go on running; sessions in them, and work in progress, end.",
	}, runDaemonStop)
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
