// Package cli is the banger command: it parses the command line, calls bangerd
// and talks to the user. There is one file per verb.
//
// What goes where: stdout carries what was asked for and nothing else, so that
// every command can stand in a pipe; progress, notices and errors go to stderr.
package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// Main runs banger with the arguments after its name and returns the exit
// status; see exit.go for what it means.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, signals := watchSignals(context.Background())
	defer signals.close()
	return run(ctx, newEnv(stdin, stdout, stderr, signals), args)
}

// run is Main with everything handed in.
func run(ctx context.Context, e *env, args []string) int {
	defer e.close()
	root := newRoot(e)
	root.SetArgs(args)
	// cobra reads os.Args if the arguments are nil.
	if args == nil {
		root.SetArgs([]string{})
	}
	err := checkCommand(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err != nil && !e.parsed {
		err = usageError(err)
	}
	printError(e.stderr, err)
	return exitCode(err)
}

// usageError makes cobra's complaints about a command line errors like ours.
func usageError(err error) error {
	return api.Errorf(api.CodeInvalid, "%s", err.Error()).WithHint("%s", api.AsError(err).Hint)
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "banger",
		Short: "Run disposable Linux VMs",
		Long: `Banger gives you a disposable Linux machine with its own kernel, systemd and
Docker, with your repository already inside, and takes it away again.`,
		Example: `  banger vm run                          a bare VM and a shell in it
  banger vm run ./repo                   a shell in a copy of the repository
  banger vm run --rm ./repo -- make test run one command, then delete the VM`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			e.parsed = true
		},
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return api.Errorf(api.CodeInvalid, "%v", err).WithHint("see: %s --help", cmd.CommandPath())
	})
	makeGroup(root)
	root.AddCommand(newVM(e), newImage(e), newKernel(e), newDu(e), newDaemon(e), newSetup(e), newDoctor(e), newVersion(e), newExitCodes())
	return root
}

// makeGroup makes cmd a command that only has others below it: alone it shows
// its help. Unknown words are what checkCommand is for.
func makeGroup(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// args checks the number of positional arguments; usage names them.
func args(least, most int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) >= least && (most < 0 || len(given) <= most) {
			return nil
		}
		problem := "too many arguments"
		if len(given) < least {
			problem = "missing argument"
		}
		return api.Errorf(api.CodeInvalid, "%s: %s", cmd.CommandPath(), problem).
			WithHint("use it like this: %s %s", cmd.CommandPath(), usage)
	}
}

// needFlags checks that flags without a default were given.
func needFlags(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f == nil || f.Value.String() == "" {
			return api.Errorf(api.CodeInvalid, "%s: --%s is missing", cmd.CommandPath(), name).
				WithHint("use it like this: %s", cmd.UseLine())
		}
	}
	return nil
}

// isFile reports whether v is an open file and returns its descriptor.
func isFile(v any) (fd int, ok bool) {
	f, ok := v.(*os.File)
	if !ok || f == nil {
		return 0, false
	}
	return int(f.Fd()), true
}
