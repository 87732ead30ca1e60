package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newVM(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Create, use and delete VMs",
	}
	makeGroup(cmd)
	cmd.AddCommand(
		newVMRun(e), newVMCreate(e),
		newVMStart(e), newVMStop(e), newVMRestart(e), newVMDelete(e),
		newVMList(e), newVMShow(e),
		newVMSSH(e), newVMSSHConfig(e), newVMExec(e), newVMLogs(e), newVMDial(e),
	)
	return cmd
}

// forEach does the same for several VMs, one after the other. What fails for
// one doesn't keep it from the others, except for a cancellation.
func forEach(ctx context.Context, names []string, do func(name string) error) error {
	var failed multiError
	for _, name := range names {
		if err := do(name); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}
