package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

// completeTimeout bounds how long the shell waits for names.
const completeTimeout = 2 * time.Second

// completer completes arguments for cobra.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective)

// completeVMs completes up to most names of VMs (-1: any number) in one of
// some states (none given: any). It never starts bangerd: pressing Tab should
// not have such consequences.
func completeVMs(e *env, most int, states ...api.State) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(client.WithoutStart(cmd.Context()), completeTimeout)
		defer cancel()
		vms, err := call(ctx, e, api.ListVMs, api.None{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError | cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, vm := range vms {
			if (len(states) == 0 || slices.Contains(states, vm.State)) && !slices.Contains(args, vm.Name) {
				names = append(names, cobra.CompletionWithDesc(vm.Name, string(vm.State)))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDir completes one directory.
func completeDir(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
