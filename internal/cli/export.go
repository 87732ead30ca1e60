package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
	"banger/internal/cli/termtext"
)

// exportOptions are the flags of image export and kernel export.
type exportOptions struct {
	output string
	force  bool
	out    outcome
}

func (o *exportOptions) addFlags(e *env, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "file to write (default: NAME"+bundleSuffix+")")
	f.BoolVarP(&o.force, "force", "f", false, "overwrite the file if it exists")
	o.out.addFlags(e, cmd, "the result", "the name of the file")
}

// runExport writes the bundle of an image or a kernel.
func runExport(ctx context.Context, e *env, route api.Stream[api.ExportImage, api.Exported], o exportOptions, name string) error {
	file := o.output
	if file == "" {
		file = name + bundleSuffix
	}
	path, err := o.target(file)
	if err != nil {
		return err
	}
	written, err := stream(ctx, e, route, api.ExportImage{Path: path}, name)
	if err != nil {
		return err
	}
	if o.out.json || o.out.quiet {
		return o.out.print(e, written, file)
	}
	e.notice("wrote %s", progress.Bytes(written.Bytes))
	if _, err := fmt.Fprintln(e.stdout, sumLine(termtext.Line(written.SHA256), file)); err != nil {
		return fmt.Errorf("write checksum: %w", err)
	}
	return nil
}

// target returns the absolute path of a file that may be written.
func (o *exportOptions) target(file string) (string, error) {
	if file == "-" {
		return "", api.Errorf(api.CodeInvalid, "a bundle can't be written to standard output").
			WithHint("name a file: -o FILE")
	}
	path, err := absolute(file)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", api.Errorf(api.CodeInvalid, "look at %s: %v", file, err)
	case info.IsDir():
		return "", api.Errorf(api.CodeInvalid, "%s is a directory", file).WithHint("name a file in it: -o FILE")
	case !o.force:
		return "", api.Errorf(api.CodeExists, "%s exists already", file).
			WithHint("overwrite it with --force, or name another file: -o FILE")
	}
	return path, nil
}

// sumLine is a line as sha256sum(1) writes and checks it: file names with a
// backslash or a newline are escaped, and a backslash before the line says so.
func sumLine(sum, file string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(file)
	if escaped != file {
		sum = `\` + sum
	}
	return sum + "  " + escaped
}
