package cli

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// buildOptions are the flags of image build.
type buildOptions struct {
	name    string
	kernel  string
	args    envFlag
	target  string
	context string
	out     outcome
}

func newImageBuild(e *env) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build FILE",
		Short: "Build an image from a recipe or a Dockerfile",
		Long: `Build an image from a recipe (a *.toml file) or a Dockerfile (any other name),
and print its name. A recipe names packages of a distribution, and its commands
run with your rights. A Dockerfile is built by Docker in a VM, with BuildKit:
this host needs none. The syntax is docker/dockerfile:1.2 (RUN --mount and the
like); one that begins with "# syntax=docker/dockerfile:1" may have newer
(here-documents, COPY --link): Docker then fetches a frontend for it.`,
		Example: `  banger image build tools.toml -t tools
  banger image build ./app/Dockerfile -t app --build-arg VERSION=2 --target run`,
		Args: args(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImageBuild(cmd.Context(), e, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.name, "name", "t", "", "name of the image (default: derived from FILE)")
	addKernelFlag(cmd, e, &o.kernel)
	f.Var(&o.args, "build-arg", "set a variable of the Dockerfile; without =VALUE, the value it has here (repeatable)")
	f.StringVar(&o.target, "target", "", "stage of the Dockerfile to build (default: the last)")
	f.StringVar(&o.context, "context", "", "directory that the Dockerfile copies from (default: the one it is in)")
	o.out.addFlags(e, cmd, "the image", "its name")
	if err := cmd.MarkFlagDirname("context"); err != nil {
		panic(err) // a flag that doesn't exist: a typo above
	}
	return cmd
}

func runImageBuild(ctx context.Context, e *env, o buildOptions, file string) error {
	req, err := o.request(file)
	if err != nil {
		return err
	}
	img, err := stream(ctx, e, api.BuildImageRoute, req)
	if err != nil {
		return err
	}
	return o.out.printMade(e, img.Name, img)
}

func (o *buildOptions) request(file string) (api.BuildImage, error) {
	req := api.BuildImage{Name: o.name, Kernel: o.kernel, Args: o.args.values, Target: o.target}
	if file == "-" {
		return req, api.Errorf(api.CodeInvalid, "a recipe or Dockerfile can't be read from standard input").
			WithHint("write it to a file first")
	}
	if abs, err := existing(file, true); err == nil {
		return req, api.Errorf(api.CodeInvalid, "%s is a directory", file).
			WithHint("name the Dockerfile: banger image build %s", shellQuote(filepath.Join(abs, "Dockerfile")))
	}
	var err error
	if req.File, err = existing(file, false); err != nil {
		return req, err
	}
	recipe := strings.HasSuffix(req.File, ".toml")
	if recipe && (o.target != "" || o.context != "" || o.args.values != nil) {
		return req, api.Errorf(api.CodeInvalid, "%s is a recipe: --build-arg, --target and --context are for Dockerfiles", file)
	}
	if o.context != "" {
		req.Context, err = existing(o.context, true)
	}
	return req, err
}
