package cli

import (
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

var imageNoun = noun[api.Image]{
	name:     "image",
	complete: imageNames,
	get:      api.GetImage,
	list:     api.ListImages,
	catalog:  api.ListCatalogImages,
	export:   api.ExportImageRoute,
	remove:   api.DeleteImageRoute,
	prune:    api.PruneImagesRoute,
	describe: describeImage,

	heading: []string{"NAME", "DISTRO", "KERNEL", "ORIGIN", "DISK", "AGE", "USED BY"},
	row: func(e *env, img api.Image) []string {
		return []string{
			img.Name, dash(img.Distro), dash(img.Kernel), dash(string(img.Origin)), dashBytes(img.DiskBytes),
			age(img.Created, e.now()), users(img.UsedBy),
		}
	},
	none:       "there are no images yet; see what could be pulled with: banger image list --catalog",
	withKernel: true,
	damaged:    func(img api.Image) (name, why string) { return img.Name, img.Damaged },

	showHelp: helpText{
		short:   "Show all about an image",
		example: "  banger image show debian-bookworm --json | jq -r .rootfs",
	},
	listHelp: helpText{
		short: "List the images",
		long: `List the images on this host, or with --catalog those that could be pulled by
their name alone.`,
		example: `  banger image list
  banger image list --catalog
  banger image list --json | jq -r '.[] | select(.used_by == []).name'`,
	},
	exportHelp: helpText{
		short: "Write an image's bundle to a file",
		long: `Write an image's bundle, which image import and image pull read, to a file.
Prints its checksum and name as sha256sum does.`,
		example: `  banger image export app -o app.tar.zst >app.tar.zst.sha256
  sha256sum -c app.tar.zst.sha256`,
	},
	removeHelp: helpText{
		short: "Delete images",
		long: `Delete images that no VM uses. Of one that was registered only banger's record
goes, never your file.`,
		example: "  banger image delete app tools",
	},
	pruneHelp: helpText{
		short: "Delete unused images that can be had again",
		long: `Delete the images that no VM uses and that can be pulled or built again, and
what was kept of downloads. Asks first, unless there is --force.`,
		example: `  banger image prune --dry-run
  banger image prune --force`,
	},
}

// describeImage returns a row for each thing that is known of an image.
func describeImage(img api.Image) [][]string {
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
	return d
}

// quoteAll formats an argument vector as a shell would take it.
func quoteAll(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = shellQuote(arg)
	}
	return strings.Join(words, " ")
}
