package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonStart(e *env) *cobra.Command {
	return newDaemonChange(e, "start", helpText{short: "Start bangerd unless it runs"}, runDaemonStart)
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
