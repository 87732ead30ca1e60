package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

// lister returns the names of something, with a word on each.
type lister func(ctx context.Context, e *env) ([]cobra.Completion, error)

func listNames[T any](route api.Route[api.None, []T], name func(T) (name, about string)) lister {
	return func(ctx context.Context, e *env) ([]cobra.Completion, error) {
		items, err := call(ctx, e, route, api.None{})
		if err != nil {
			return nil, err
		}
		var names []cobra.Completion
		for _, item := range items {
			names = append(names, cobra.CompletionWithDesc(name(item)))
		}
		return names, nil
	}
}

// The listers. Like all completion they never start bangerd.
func imageNames(ctx context.Context, e *env) ([]cobra.Completion, error) {
	return listNames(api.ListImages, func(i api.Image) (string, string) { return i.Name, string(i.Origin) })(ctx, e)
}

func kernelNames(ctx context.Context, e *env) ([]cobra.Completion, error) {
	return listNames(api.ListKernels, func(k api.Kernel) (string, string) { return k.Name, k.Release })(ctx, e)
}

func catalogImageNames(ctx context.Context, e *env) ([]cobra.Completion, error) {
	return listNames(api.ListCatalogImages, describeEntry)(ctx, e)
}

func catalogKernelNames(ctx context.Context, e *env) ([]cobra.Completion, error) {
	return listNames(api.ListCatalogKernels, describeEntry)(ctx, e)
}

func describeEntry(c api.CatalogEntry) (name, about string) { return c.Name, c.Description }

// completeNames completes up to most names (-1: any number) of what the
// listers know; the first that knows a name describes it.
func completeNames(e *env, most int, listers ...lister) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(client.WithoutStart(cmd.Context()), completeTimeout)
		defer cancel()
		var names []cobra.Completion
		seen := slices.Clone(args)
		for _, list := range listers {
			some, err := list(ctx, e)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError | cobra.ShellCompDirectiveNoFileComp
			}
			for _, c := range some {
				if name, _, _ := strings.Cut(c, "\t"); !slices.Contains(seen, name) {
					names, seen = append(names, c), append(seen, name)
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRefs completes one name of the catalog, or a file.
func completeRefs(e *env, catalog lister) completer {
	names := completeNames(e, 1, catalog)
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 && (strings.HasPrefix(word, "/") || strings.HasPrefix(word, ".")) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return names(cmd, args, word)
	}
}

// completeFlag completes a flag's value. A value says nothing of the arguments
// that stand on the command line.
func completeFlag(cmd *cobra.Command, flag string, complete completer) {
	alone := func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return complete(cmd, nil, word)
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, alone); err != nil {
		panic(err) // a flag that doesn't exist: a typo in the caller
	}
}
