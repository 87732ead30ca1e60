package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

func newKernelPull(e *env) *cobra.Command {
	var name string
	var sum sha256Flag
	var out outcome
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Get a kernel of the catalog or a bundle",
		Long: `Get a kernel and print its name. REF is one of

  NAME           a name of the catalog, see: banger kernel list --catalog
  https://…      the URL of a bundle
  ./FILE, /FILE  a bundle in a file

A kernel of that name that is there already is fetched anew and replaced.`,
		Example: `  banger kernel pull generic-6.12
  banger kernel pull ./mine.tar.zst --name mine`,
		Args:              args(1, 1, "REF"),
		ValidArgsFunction: completeRefs(e, catalogKernelNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKernelPull(cmd.Context(), e, api.PullKernel{Ref: args[0], Name: name, SHA256: sum.hex}, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name of the kernel on this host (default: what the bundle or the catalog calls it)")
	f.Var(&sum, "sha256", "checksum that the bundle must have")
	out.addFlags(e, cmd, "the kernel", "its name")
	return cmd
}

func runKernelPull(ctx context.Context, e *env, req api.PullKernel, out outcome) error {
	ref, err := pullRef(req.Ref, false)
	if err != nil {
		return err
	}
	req.Ref = ref
	k, err := stream(ctx, e, api.PullKernelRoute, req)
	if err != nil {
		return err
	}
	return out.printMade(e, k.Name, k)
}
