package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

func newVMList(e *env) *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the VMs",
		Long: `List the VMs and what they are doing. One whose VMM doesn't answer to bangerd,
or whose record is damaged, is "unknown"; one whose guest has to wait until the
host's disk has space is "paused". What is wrong with a VM, say that it has lost
its network, follows on stderr.`,
		Example:           "  banger vm list --json | jq -r '.[].name'",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && quiet {
				return api.Errorf(api.CodeInvalid, "--json and --quiet don't go together")
			}
			return runVMList(cmd.Context(), e, asJSON, quiet)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only their names")
	return cmd
}

func runVMList(ctx context.Context, e *env, asJSON, quiet bool) error {
	vms, err := call(ctx, e, api.ListVMs, api.None{})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, vms)
	}
	if len(vms) == 0 && !quiet {
		e.notice("there are no VMs; make one with: banger vm run")
		return nil
	}
	var rows [][]string
	if !quiet {
		rows = append(rows, []string{"NAME", "STATE", "IMAGE", "VCPUS", "MEMORY", "DISK", "IP", "AGE", "WORKSPACE"})
	}
	for _, vm := range vms {
		row := []string{vm.Name}
		if !quiet {
			row = append(row, string(vm.State), vm.Image, strconv.Itoa(vm.VCPUs),
				progress.Bytes(vm.MemoryMiB<<20), progress.Bytes(vm.DiskBytes), dash(vm.IP),
				age(vm.CreatedAt, e.now()), dash(workspaceDir(vm)))
		}
		rows = append(rows, row)
	}
	if err := printTable(e.stdout, rows); err != nil || quiet {
		return err
	}
	for _, vm := range vms {
		if vm.Reason != "" && vm.State != api.StateStopped {
			e.notice("VM %s: %s", vm.Name, vm.Reason)
		}
	}
	return nil
}
