package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

func newVMLogs(e *env) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:               "logs VM",
		Short:             "Print the console log of a VM",
		Long:              "Print what the kernel and the init system of a VM have written to its console.",
		Example:           "  banger vm logs -f web",
		Args:              args(1, 1, "VM"),
		ValidArgsFunction: completeVMs(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVMLogs(cmd.Context(), e, args[0], follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return cmd
}

func runVMLogs(ctx context.Context, e *env, name string, follow bool) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	log, err := c.Logs(ctx, name, follow)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = io.Copy(e.stdout, log)
	if follow && ctx.Err() != nil {
		return &exitError{exitCode(context.Cause(ctx))} // the way to end it, no news
	}
	return err
}
