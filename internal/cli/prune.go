package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

// pruneOptions are the flags of image prune and kernel prune.
type pruneOptions struct {
	force  bool
	dryRun bool
	out    outcome
}

func (o *pruneOptions) addFlags(e *env, cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&o.force, "force", "f", false, "don't ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "only tell what would be deleted")
	o.out.addFlags(e, cmd, "what was deleted", "the names of what was deleted")
}

// runPrune deletes the unused things of one kind.
func runPrune(ctx context.Context, e *env, route api.Route[api.Prune, api.Pruned], o pruneOptions) error {
	if o.force && o.dryRun {
		return api.Errorf(api.CodeInvalid, "--force and --dry-run don't go together")
	}
	if !o.force && !o.dryRun && !e.stdinTTY {
		return api.Errorf(api.CodeInvalid, "prune asks before it deletes, and standard input is no terminal").
			WithHint("use --force to delete without a question, --dry-run to see what would go")
	}
	var pruned api.Pruned
	var err error
	if !o.force {
		pruned, err = call(ctx, e, route, api.Prune{DryRun: true})
		if err != nil {
			return err
		}
	}
	if o.dryRun {
		return printPruned(e, pruned, o.out)
	}
	if !o.force && len(pruned.Removed) > 0 {
		yes, err := confirmPrune(ctx, e, pruned)
		if err != nil || !yes {
			return err
		}
	}
	if o.force || len(pruned.Removed) > 0 {
		if pruned, err = call(ctx, e, route, api.Prune{}); err != nil {
			return err
		}
	}
	if o.out.json || o.out.quiet {
		return o.out.print(e, pruned, prunedNames(pruned)...)
	}
	for _, item := range pruned.Removed {
		e.notice("deleted %s %s", item.Kind, item.Name)
	}
	if len(pruned.Removed) == 0 {
		e.notice("there is nothing to delete")
		return nil
	}
	e.notice("freed %s", progress.Bytes(pruned.Bytes))
	return nil
}

// printPruned prints what would be deleted.
func printPruned(e *env, pruned api.Pruned, out outcome) error {
	if out.json || out.quiet {
		return out.print(e, pruned, prunedNames(pruned)...)
	}
	if len(pruned.Removed) == 0 {
		e.notice("there is nothing to delete")
		return nil
	}
	return printTable(e.stdout, prunedRows(pruned))
}

func prunedNames(pruned api.Pruned) []string {
	var names []string
	for _, item := range pruned.Removed {
		names = append(names, item.Name)
	}
	return names
}

func prunedRows(pruned api.Pruned) [][]string {
	rows := [][]string{{"KIND", "NAME", "FREES"}}
	for _, item := range pruned.Removed {
		rows = append(rows, []string{item.Kind, item.Name, progress.Bytes(item.Bytes)})
	}
	return append(rows, []string{"total", "", progress.Bytes(pruned.Bytes)})
}

// confirmPrune shows what would be deleted and asks whether to.
func confirmPrune(ctx context.Context, e *env, pruned api.Pruned) (bool, error) {
	if err := printTable(e.stderr, prunedRows(pruned)); err != nil {
		return false, err
	}
	fmt.Fprint(e.stderr, "Delete these? [y/N] ")
	answer, err := readLine(ctx, e.stdin)
	if err != nil {
		fmt.Fprintln(e.stderr) // the cursor is behind the question
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	e.notice("nothing was deleted")
	return false, nil
}

// readLine reads a line, or what there is of one. At the end of ctx it returns
// at once; the read itself can't be ended and goes on.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		read <- result{line, err}
	}()
	select {
	case got := <-read:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", got.err)
		}
		return got.line, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
