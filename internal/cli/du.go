package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

func newDu(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "du",
		Short: "Show what takes space on this host's disk",
		Long: `Show what images, kernels, VMs and caches take on this host's disk.

  EXCLUSIVE    only this uses it: deleting it would free as much
  SHARED       others use it as well; of a VM it is its image and its kernel
  RECLAIMABLE  a prune would free it: banger image prune, banger kernel prune

Only what is allocated counts: a VM's disk of 20 GiB takes what the VM has
written.`,
		Example: `  banger du
  banger du --json | jq .reclaimable`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDu(cmd.Context(), e, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON, in bytes")
	return cmd
}

func runDu(ctx context.Context, e *env, asJSON bool) error {
	usage, err := call(ctx, e, api.GetUsage, api.None{})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, usage)
	}
	rows := [][]string{{"KIND", "NAME", "EXCLUSIVE", "SHARED", "RECLAIMABLE", "USED BY"}}
	for _, item := range usage.Items {
		rows = append(rows, []string{
			item.Kind, item.Name, progress.Bytes(item.Exclusive), progress.Bytes(item.Shared),
			progress.Bytes(item.Reclaimable), users(item.UsedBy),
		})
	}
	if err := printTable(e.stdout, rows); err != nil {
		return err
	}
	// No row of the table: what is shared counts once.
	if _, err := fmt.Fprintf(e.stdout, "total %s, reclaimable %s\n",
		progress.Bytes(usage.Bytes), progress.Bytes(usage.Reclaimable)); err != nil {
		return fmt.Errorf("write total: %w", err)
	}
	return nil
}
