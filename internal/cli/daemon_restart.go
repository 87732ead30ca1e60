package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newDaemonRestart(e *env) *cobra.Command {
	return newDaemonChange(e, "restart", helpText{
		short: "Stop bangerd and start the installed one",
		long:  "Stop bangerd, whatever its version, and start the installed one. VMs go on.",
	}, runDaemonRestart)
}

func runDaemonRestart(ctx context.Context, e *env) error {
	if err := runDaemonStop(ctx, e); err != nil {
		return err
	}
	return runDaemonStart(ctx, e)
}
