package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"banger/internal/cli/termtext"
)

// logsOptions are the flags of vm logs.
type logsOptions struct {
	follow bool
	raw    bool
}

func newVMLogs(e *env) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs VM",
		Short: "Print the console log of a VM",
		Long: `Print what the kernel and the init system of a VM have written to its console.

The guest may have written anything. On a terminal, all that could do more there
than set colours is shown as text, such as \x1b. Elsewhere, and with --raw, the
log comes as it is.`,
		Example:           "  banger vm logs -f web",
		Args:              args(1, 1, "VM"),
		ValidArgsFunction: completeVMs(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVMLogs(cmd.Context(), e, args[0], o)
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on until Ctrl-C")
	cmd.Flags().BoolVar(&o.raw, "raw", false, "let the guest's text control the terminal")
	return cmd
}

func runVMLogs(ctx context.Context, e *env, name string, o logsOptions) (err error) {
	c, err := e.client()
	if err != nil {
		return err
	}
	log, err := c.Logs(ctx, name, o.follow)
	if err != nil {
		return err
	}
	defer log.Close()
	to := e.rawStdout
	if e.stdoutTTY && !o.raw {
		console := termtext.NewConsole(e.rawStdout)
		defer func() {
			if failed := console.Close(); err == nil {
				err = failed
			}
		}()
		to = console
	}
	_, err = io.Copy(to, log)
	if o.follow && ctx.Err() != nil {
		return &exitError{exitCode(context.Cause(ctx))} // the way to end it, no news
	}
	return err
}
