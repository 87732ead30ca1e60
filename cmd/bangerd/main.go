// Command bangerd is banger's daemon: it keeps one user's VMs. The command line
// starts it when it is needed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/daemon"
	"banger/internal/daemonlog"
	"banger/internal/paths"
	"banger/internal/rootless"
	"banger/internal/version"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status. Its last words on stderr are what the command
// line shows when bangerd can't start.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bangerd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	showVersion := flags.Bool("version", false, "print the version and exit")
	verbose := flags.Bool("verbose", os.Getenv("BANGER_VERBOSE") != "", "log details")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stdout, "bangerd", version.String())
		return 0
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logWriter(stderr), &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log) // for guard alone: everybody else is given a logger

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := runRole(ctx, flags.Args(), log); err != nil {
		e := api.AsError(err)
		fmt.Fprintln(stderr, "bangerd:", e.Msg)
		if e.Hint != "" {
			fmt.Fprintln(stderr, "  hint:", e.Hint)
		}
		return 1
	}
	return 0
}

// runRole is bangerd itself, unless the arguments ask for another role.
func runRole(ctx context.Context, args []string, log *slog.Logger) error {
	switch {
	case len(args) == 1 && args[0] == keepRole:
		return keepNamespaces(ctx, log)
	case len(args) > 0 && args[0] == blockRole:
		return blockAddresses(args[1:])
	case len(args) > 0:
		return api.Errorf(api.CodeInvalid, "bangerd takes no argument %q", args[0])
	}
	return serve(ctx, log)
}

// logWriter returns where to log to: stderr, which is kept small if it is
// bangerd's log.
func logWriter(stderr io.Writer) io.Writer {
	file, ok := stderr.(*os.File)
	layout, err := paths.FromEnv()
	if !ok || err != nil { // serve reports it
		return stderr
	}
	return daemonlog.Writer(file, layout.DaemonLog())
}

func serve(ctx context.Context, log *slog.Logger) (err error) {
	layout, err := paths.FromEnv()
	if err != nil {
		return err
	}
	if err := layout.Create(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		// Doesn't return unless it fails: this process goes on inside.
		keep, err := selfAs(keepRole)
		if err != nil {
			return err
		}
		return rootless.Enter(ctx, layout, log, keep)
	}
	// The lock comes before anything that two daemons must not do at once.
	listener, release, err := daemon.Listen(layout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	d, err := wire(ctx, layout, log)
	if err != nil {
		return errors.Join(err, listener.Close(), releaseNamespaces(ctx, layout))
	}
	err = d.server.Serve(ctx, listener)
	return errors.Join(err, d.close(context.WithoutCancel(ctx)))
}
