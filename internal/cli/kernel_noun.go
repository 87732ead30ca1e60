package cli

import (
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

var kernelNoun = noun[api.Kernel]{
	name:     "kernel",
	complete: kernelNames,
	get:      api.GetKernel,
	list:     api.ListKernels,
	catalog:  api.ListCatalogKernels,
	export:   api.ExportKernelRoute,
	remove:   api.DeleteKernelRoute,
	prune:    api.PruneKernelsRoute,
	describe: func(k api.Kernel) [][]string {
		var d description
		d.row("Name", k.Name)
		d.row("Release", k.Release)
		d.row("Version", k.Version)
		d.row("Arch", k.Arch)
		d.row("Origin", string(k.Origin))
		d.row("Source", k.Source)
		d.row("On disk", progress.Bytes(k.DiskBytes))
		d.row("Used by", strings.Join(k.UsedBy, ", "))
		d.row("Created", k.Created.Local().Format(time.DateTime))
		return d
	},

	heading: []string{"NAME", "RELEASE", "ORIGIN", "DISK", "AGE", "USED BY"},
	row: func(e *env, k api.Kernel) []string {
		return []string{
			k.Name, dash(k.Release), dash(string(k.Origin)), dashBytes(k.DiskBytes), age(k.Created, e.now()), users(k.UsedBy),
		}
	},
	none:    "there are no kernels yet; see what could be pulled with: banger kernel list --catalog",
	damaged: func(k api.Kernel) (name, why string) { return k.Name, k.Damaged },

	showHelp: helpText{
		short:   "Show all about a kernel",
		example: "  banger kernel show generic-6.12 --json | jq -r .release",
	},
	listHelp: helpText{
		short: "List the kernels",
		long: `List the kernels on this host, or with --catalog those that could be pulled by
their name alone.`,
		example: `  banger kernel list
  banger kernel list --catalog`,
	},
	exportHelp: helpText{
		short: "Write a kernel's bundle to a file",
		long: `Write a kernel's bundle, which kernel pull reads, to a file. Prints its checksum
and name as sha256sum does.`,
		example: `  banger kernel export mine -o mine.tar.zst >mine.tar.zst.sha256
  sha256sum -c mine.tar.zst.sha256`,
	},
	removeHelp: helpText{
		short:   "Delete kernels",
		long:    "Delete kernels that no image and no VM uses.",
		example: "  banger kernel delete generic-6.1",
	},
	pruneHelp: helpText{
		short: "Delete unused kernels that can be had again",
		long: `Delete the kernels that no image and no VM uses and that can be pulled or built
again. Asks first, unless there is --force.`,
		example: `  banger kernel prune --dry-run
  banger kernel prune --force`,
	},
}
