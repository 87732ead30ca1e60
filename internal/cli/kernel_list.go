package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelList(e *env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the kernels",
		Long: `List the kernels on this host, or with --catalog those that could be pulled by
their name alone.`,
		Example: `  banger kernel list
  banger kernel list --catalog`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runKernelList(cmd.Context(), e, o) },
	}
	o.addFlags(cmd)
	return cmd
}

func runKernelList(ctx context.Context, e *env, o listOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.catalog {
		return runCatalog(ctx, e, o, api.ListCatalogKernels, false)
	}
	kernels, err := call(ctx, e, api.ListKernels, api.None{})
	if err != nil {
		return err
	}
	heading := []string{"NAME", "RELEASE", "ORIGIN", "DISK", "AGE", "USED BY"}
	err = printList(e, o, kernels, heading, func(k api.Kernel) []string {
		return []string{
			k.Name, dash(k.Release), dash(string(k.Origin)), dashBytes(k.DiskBytes), age(k.Created, e.now()), users(k.UsedBy),
		}
	}, "there are no kernels yet; see what could be pulled with: banger kernel list --catalog")
	for _, k := range kernels {
		noticeDamaged(e, o, "kernel", k.Name, k.Damaged)
	}
	return err
}
