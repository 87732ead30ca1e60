package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"banger/internal/guest"
)

// newVMDial is what SSH clients use as ProxyCommand.
func newVMDial(e *env) *cobra.Command {
	var port uint32
	cmd := &cobra.Command{
		Use:   "dial VM",
		Short: "Join stdin and stdout to a port of a VM",
		Long: `Join stdin and stdout to a port of a VM's agent, by default to its SSH server:
the ProxyCommand of an SSH client. See "banger vm ssh-config" for what else a
client needs to know.`,
		Example:           `  ssh -o ProxyCommand='banger vm dial web' root@web`,
		Args:              args(1, 1, "VM"),
		ValidArgsFunction: completeVMs(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVMDial(cmd.Context(), e, args[0], port)
		},
	}
	cmd.Flags().Uint32Var(&port, "port", guest.PortSSH, "port of the agent")
	return cmd
}

// runVMDial returns when the guest has ended the connection; the end of stdin
// is only passed on.
func runVMDial(ctx context.Context, e *env, name string, port uint32) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	conn, err := c.DialGuest(ctx, name, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		// A guest that doesn't read any more has ended the connection or will;
		// that is seen below.
		_, _ = io.Copy(conn, e.stdin)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(e.rawStdout, conn)
	if ctx.Err() != nil {
		// ssh ends its ProxyCommand by SIGHUP, and shares its stderr: there is
		// nothing to say.
		return &exitError{exitCode(context.Cause(ctx))}
	}
	return err
}
