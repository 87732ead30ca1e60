package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

func newKernelShow(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show all about a kernel",
		Example:           "  banger kernel show generic-6.12 --json | jq -r .release",
		Args:              args(1, 1, "NAME"),
		ValidArgsFunction: completeNames(e, 1, kernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKernelShow(cmd.Context(), e, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func runKernelShow(ctx context.Context, e *env, name string, asJSON bool) error {
	k, err := call(ctx, e, api.GetKernel, api.None{}, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, k)
	}
	var d description
	d.row("Name", k.Name)
	d.row("Release", k.Release)
	d.row("Version", k.Version)
	d.row("Arch", k.Arch)
	d.row("Origin", string(k.Origin))
	d.row("Source", k.Source)
	d.row("On disk", progress.Bytes(k.DiskBytes))
	d.row("Used by", strings.Join(k.UsedBy, ", "))
	d.row("Created", k.Created.Local().Format(time.DateTime))
	return printTable(e.stdout, d)
}
