package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

func newImageShow(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show all about an image",
		Example:           "  banger image show debian-bookworm --json | jq -r .rootfs",
		Args:              args(1, 1, "NAME"),
		ValidArgsFunction: completeNames(e, 1, imageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImageShow(cmd.Context(), e, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func runImageShow(ctx context.Context, e *env, name string, asJSON bool) error {
	img, err := call(ctx, e, api.GetImage, api.None{}, name)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, img)
	}
	var d description
	d.row("Name", img.Name)
	d.row("Distro", img.Distro)
	d.row("Arch", img.Arch)
	d.row("Kernel", img.Kernel)
	d.row("Origin", string(img.Origin))
	d.row("Source", img.Source)
	d.row("Digest", img.Digest)
	d.row("Rootfs", img.Rootfs)
	d.row("Size", progress.Bytes(img.SizeBytes))
	d.row("On disk", progress.Bytes(img.DiskBytes))
	d.row("Real dirs", strings.Join(img.RealDirs, " "))
	if c := img.Config; c != nil {
		for _, variable := range c.Env {
			d.row("Env", variable)
		}
		d.row("Working dir", c.WorkingDir)
		d.row("User", c.User)
		d.row("Entrypoint", quoteAll(c.Entrypoint))
		d.row("Cmd", quoteAll(c.Cmd))
	}
	d.row("Used by", strings.Join(img.UsedBy, ", "))
	d.row("Created", img.Created.Local().Format(time.DateTime))
	return printTable(e.stdout, d)
}

// quoteAll formats an argument vector as a shell would take it.
func quoteAll(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = shellQuote(arg)
	}
	return strings.Join(words, " ")
}
