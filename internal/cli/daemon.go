package cli

import "github.com/spf13/cobra"

func newDaemon(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Look at or control bangerd",
		Long: `Look at or control bangerd, the daemon that keeps the VMs. It starts by itself
when it is needed, and its end doesn't touch running VMs.`,
	}
	makeGroup(cmd)
	cmd.AddCommand(newDaemonStatus(e), newDaemonStart(e), newDaemonStop(e), newDaemonRestart(e))
	return cmd
}
