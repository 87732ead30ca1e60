package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

// listOptions are the flags of image list and kernel list.
type listOptions struct {
	json    bool
	quiet   bool
	catalog bool
}

func (o *listOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print them as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only their names")
	f.BoolVar(&o.catalog, "catalog", false, "list what could be pulled")
}

func (o *listOptions) check() error {
	if o.json && o.quiet {
		return api.Errorf(api.CodeInvalid, "--json and --quiet don't go together")
	}
	return nil
}

// print writes a list in the form that the flags ask for. row makes the
// columns of one item, its name first; none is told to people where there are
// no items.
func printList[T any](e *env, o listOptions, items []T, heading []string, row func(T) []string, none string) error {
	if o.json {
		return printJSON(e.stdout, items)
	}
	if len(items) == 0 && !o.quiet {
		e.notice("%s", none)
		return nil
	}
	var rows [][]string
	if !o.quiet {
		rows = append(rows, heading)
	}
	for _, item := range items {
		columns := row(item)
		if o.quiet {
			columns = columns[:1]
		}
		rows = append(rows, columns)
	}
	return printTable(e.stdout, rows)
}

// noticeDamaged tells people why an image or a kernel can't be used, and what to do.
func noticeDamaged(e *env, o listOptions, noun, name, why string) {
	if why != "" && !o.json && !o.quiet {
		e.notice("%s %s is damaged: %s", noun, name, why)
		e.notice("  banger %s delete %s removes it", noun, name)
	}
}

// runCatalog prints the images or kernels of the catalog.
func runCatalog(ctx context.Context, e *env, o listOptions, route api.Route[api.None, []api.CatalogEntry], withKernel bool) error {
	entries, err := call(ctx, e, route, api.None{})
	if err != nil {
		return err
	}
	row := func(name, description, kernel, download, disk, here string) []string {
		if !withKernel {
			return []string{name, description, download, disk, here}
		}
		return []string{name, description, kernel, download, disk, here}
	}
	heading := row("NAME", "DESCRIPTION", "KERNEL", "DOWNLOAD", "DISK", "HERE")
	return printList(e, o, entries, heading, func(c api.CatalogEntry) []string {
		here := "-"
		if c.Here {
			here = "yes"
		}
		description := c.Description
		if c.Default {
			description += " (default)"
		}
		return row(c.Name, description, dash(c.Kernel), dashBytes(c.DownloadBytes), dashBytes(c.DiskBytes), here)
	}, "the catalog is empty")
}

// dashBytes formats a size; a dash stands for one that is not known.
func dashBytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return progress.Bytes(n)
}

// users formats who uses something, in one column.
func users(names []string) string { return dash(strings.Join(names, ", ")) }
