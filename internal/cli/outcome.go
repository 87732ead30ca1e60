package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/termtext"
)

// outcome is how a command that changes something tells what it has changed:
// every such command has these flags.
type outcome struct{ json, quiet bool }

// addFlags adds the flags. what is printed as JSON, "the VM" say; names is what
// is printed with --quiet, "" for nothing.
func (o *outcome) addFlags(e *env, cmd *cobra.Command, what, names string) {
	if names == "" {
		names = "nothing"
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print "+what+" as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only "+names+", and no progress")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		e.quiet = o.quiet
		return o.check()
	}
}

func (o *outcome) check() error {
	if o.json && o.quiet {
		return api.Errorf(api.CodeInvalid, "--json and --quiet don't go together")
	}
	return nil
}

// print prints what was changed, as the flags ask for it.
func (o outcome) print(e *env, changed any, names ...string) error {
	if o.json {
		return printJSON(e.stdout, changed)
	}
	if !o.quiet {
		return nil
	}
	return printNames(e, names...)
}

// printMade is print for what a command has made, whose name it prints also
// without flags.
func (o outcome) printMade(e *env, name string, made any) error {
	if o.json {
		return printJSON(e.stdout, made)
	}
	return printNames(e, name)
}

func printNames(e *env, names ...string) error {
	for _, name := range names {
		if _, err := fmt.Fprintln(e.stdout, termtext.Line(name)); err != nil {
			return fmt.Errorf("write name: %w", err)
		}
	}
	return nil
}

// deleted is what is left to tell of something that a command has deleted.
type deleted struct {
	Kind string `json:"kind"` // as in api.UsageItem
	Name string `json:"name"`
}

// changeEach changes each of several things and then prints those that it could
// change: a list, however many there are.
func changeEach[T any](ctx context.Context, e *env, o outcome, words []string, change func(word string) (T, error), nameOf func(T) string) error {
	changed, names := []T{}, []string{}
	err := forEach(ctx, words, func(word string) error {
		one, err := change(word)
		if err == nil {
			changed, names = append(changed, one), append(names, nameOf(one))
		}
		return err
	})
	if printed := o.print(e, changed, names...); err == nil {
		err = printed
	}
	return err
}

// deleteEach deletes things of one kind. remove returns the name of what it has
// deleted, which may have been called something else.
func deleteEach(ctx context.Context, e *env, o outcome, kind string, words []string, remove func(word string) (name string, err error)) error {
	return changeEach(ctx, e, o, words, func(word string) (deleted, error) {
		name, err := remove(word)
		if err != nil {
			return deleted{}, err
		}
		e.done("deleted %s", name)
		return deleted{kind, name}, nil
	}, func(d deleted) string { return d.Name })
}

func nameOfVM(vm api.VM) string { return vm.Name }
