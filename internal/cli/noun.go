package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// helpText is what a command says of itself.
type helpText struct{ short, long, example string }

func (h helpText) command(use string) *cobra.Command {
	return &cobra.Command{Use: use, Short: h.short, Long: h.long, Example: h.example}
}

// noun is what the commands of images and of kernels differ in: both are things
// that this host has by name, and of which there is a catalog. T describes one.
type noun[T any] struct {
	name     string // "image"
	complete lister // their names

	get      api.Route[api.None, T]
	list     api.Route[api.None, []T]
	catalog  api.Route[api.None, []api.CatalogEntry]
	export   api.Stream[api.ExportImage, api.Exported]
	remove   api.Route[api.None, api.None]
	prune    api.Route[api.Prune, api.Pruned]
	describe func(T) [][]string // all about one

	heading    []string // of the list
	row        func(*env, T) []string
	none       string // what the list says if there are none
	damaged    func(T) (name, why string)
	withKernel bool // the catalog tells what they boot

	showHelp, listHelp, exportHelp, removeHelp, pruneHelp helpText
}

// commands returns those that show what there is, and those that let it go.
func (n noun[T]) commands(e *env) (show, discard []*cobra.Command) {
	return []*cobra.Command{n.newList(e), newShow(e, "NAME", n.showHelp, completeNames(e, 1, n.complete), n.get, n.describe)},
		[]*cobra.Command{n.newExport(e), n.newDelete(e), n.newPrune(e)}
}

// newShow shows one thing, which is called that in usages.
func newShow[T any](e *env, called string, help helpText, complete completer, get api.Route[api.None, T], describe func(T) [][]string) *cobra.Command {
	var asJSON bool
	cmd := help.command("show " + called)
	cmd.Args = args(1, 1, called)
	cmd.ValidArgsFunction = complete
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		one, err := call(cmd.Context(), e, get, api.None{}, args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(e.stdout, one)
		}
		return printTable(e.stdout, describe(one))
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (n noun[T]) newList(e *env) *cobra.Command {
	var o listOptions
	cmd := n.listHelp.command("list")
	cmd.Aliases = []string{"ls"}
	cmd.Args = args(0, 0, "")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return n.runList(cmd.Context(), e, o) }
	o.addFlags(cmd)
	return cmd
}

func (n noun[T]) runList(ctx context.Context, e *env, o listOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.catalog {
		return runCatalog(ctx, e, o, n.catalog, n.withKernel)
	}
	all, err := call(ctx, e, n.list, api.None{})
	if err != nil {
		return err
	}
	err = printList(e, o, all, n.heading, func(one T) []string { return n.row(e, one) }, n.none)
	for _, one := range all {
		name, why := n.damaged(one)
		noticeDamaged(e, o, n.name, name, why)
	}
	return err
}

func (n noun[T]) newExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := n.exportHelp.command("export NAME")
	cmd.Args = args(1, 1, "NAME")
	cmd.ValidArgsFunction = completeNames(e, 1, n.complete)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runExport(cmd.Context(), e, n.export, o, args[0])
	}
	o.addFlags(e, cmd)
	return cmd
}

func (n noun[T]) newDelete(e *env) *cobra.Command {
	var out outcome
	cmd := n.removeHelp.command("delete NAME...")
	cmd.Aliases = []string{"rm"}
	cmd.Args = args(1, -1, "NAME...")
	cmd.ValidArgsFunction = completeNames(e, -1, n.complete)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return deleteEach(cmd.Context(), e, out, n.name, args, func(name string) (string, error) {
			_, err := call(cmd.Context(), e, n.remove, api.None{}, name)
			return name, err
		})
	}
	out.addFlags(e, cmd, "a list of what was deleted", "their names")
	return cmd
}

func (n noun[T]) newPrune(e *env) *cobra.Command {
	var o pruneOptions
	cmd := n.pruneHelp.command("prune")
	cmd.Args = args(0, 0, "")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runPrune(cmd.Context(), e, n.prune, o)
	}
	o.addFlags(e, cmd)
	return cmd
}
