package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// pullOptions are the flags of image pull.
type pullOptions struct {
	name     string
	kernel   string
	platform string
	sha256   sha256Flag
	out      outcome
}

func newImagePull(e *env) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Get an image of the catalog, a registry or a file",
		Long: `Get an image and the kernel that it needs. Prints its name. REF is one of

  NAME                  a name of the catalog, see: banger image list --catalog
  HOST/REPOSITORY:TAG   an image of a container registry; the credentials of
                        docker login and podman login are used
  https://…             the URL of a bundle
  ./FILE, /FILE         a bundle in a file, or an archive as docker save and
                        podman save write it: plain, gzip or zstd
  ./DIR, /DIR           a directory with an OCI layout

An image of that name that is there already is fetched anew and replaced; VMs
that use it keep what they have.`,
		Example: `  banger image pull debian-bookworm
  banger image pull docker.io/library/alpine:3.20 --kernel-ref generic-6.12
  banger image pull ghcr.io/org/app@sha256:… --platform linux/amd64 --name app
  banger image pull ./app.tar.zst --sha256 "$sum"
  docker save app:1 >app.tar && banger image pull ./app.tar`,
		Args:              args(1, 1, "REF"),
		ValidArgsFunction: completeRefs(e, catalogImageNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImagePull(cmd.Context(), e, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the image on this host (default: what the bundle, the archive or the catalog calls it, or derived from REF)")
	addKernelFlag(cmd, e, &o.kernel)
	f.StringVar(&o.platform, "platform", "", "which of a registry's or an archive's images, such as linux/amd64 (default: this host's)")
	f.Var(&o.sha256, "sha256", "checksum that the bundle must have")
	o.out.addFlags(e, cmd, "the image", "its name")
	return cmd
}

func runImagePull(ctx context.Context, e *env, o pullOptions, word string) error {
	ref, err := pullRef(word, true)
	if err != nil {
		return err
	}
	img, err := stream(ctx, e, api.PullImageRoute, api.PullImage{
		Ref: ref, Name: o.name, Kernel: o.kernel, Platform: o.platform, SHA256: o.sha256.hex,
	})
	if err != nil {
		return err
	}
	return o.out.printMade(e, img.Name, img)
}
