package cli

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger/internal/api"
)

// withSyntax is how a further directory is given.
const withSyntax = "HOST[:GUEST][:ro]"

func addWith(cmd *cobra.Command, f *pflag.FlagSet, with *[]string) {
	f.StringArrayVar(with, "with", nil, "copy a further directory into it, as `"+withSyntax+"` (default: to /root/NAME; repeatable)")
	completeFlag(cmd, "with", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
}

// parseWith reads the values of --with.
func parseWith(values []string) ([]api.Copy, error) {
	var copies []api.Copy
	for _, value := range values {
		c, err := parseCopy(value)
		if err != nil {
			return nil, err
		}
		copies = append(copies, c)
	}
	return copies, nil
}

// parseCopy reads one value. It is taken apart from its end, for a host's path may
// have colons: those of a guest are told by the slash after them.
func parseCopy(value string) (api.Copy, error) {
	host, readOnly := strings.CutSuffix(value, ":ro")
	c := api.Copy{ReadOnly: readOnly}
	if i := strings.LastIndex(host, ":/"); i >= 0 {
		host, c.GuestPath = host[:i], host[i+1:]
	}
	if host == "" {
		return c, api.Errorf(api.CodeInvalid, "--with %s names no directory of the host", shellQuote(value)).
			WithHint("it is given as %s, for instance: --with ./lib:/root/lib:ro", withSyntax)
	}
	if _, option, found := strings.Cut(c.GuestPath, ":"); found {
		return c, api.Errorf(api.CodeInvalid, "--with %s: %q is no option", shellQuote(value), option).
			WithHint("the only one is ro; without it, the copy can be written to")
	}
	path, err := absolute(host)
	if err != nil {
		return c, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, noSuchCopy(value, host)
	case err != nil:
		return c, api.Errorf(api.CodeInvalid, "--with %s: %v", shellQuote(value), err)
	case !info.IsDir():
		return c, api.Errorf(api.CodeInvalid, "--with %s: %s is not a directory", shellQuote(value), host).
			WithHint("name the directory that it is in")
	}
	c.Path = path
	return c, nil
}

// noSuchCopy says why there is no directory of that name: mostly for what is wrong
// with what stands behind it.
func noSuchCopy(value, host string) error {
	err := api.Errorf(api.CodeInvalid, "--with %s: there is no directory %s", shellQuote(value), host)
	before, after, split := strings.Cut(host, ":")
	switch {
	case strings.HasPrefix(host, "~"):
		return err.WithHint("a shell puts your home in place of ~ only where a word begins: --with %s, with a space, or --with=$HOME%s", host, strings.TrimPrefix(host, "~"))
	case split && strings.HasPrefix(after, "~"):
		return err.WithHint("the guest's path must be absolute; root's home is /root: --with %s", shellQuote(before+":/root"+strings.TrimPrefix(after, "~")))
	case split && isDirectory(before):
		return err.WithHint("%s", "it is given as "+withSyntax+", with an absolute path in the guest and no other option than ro")
	}
	return err
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// tellNotes tells what is out of the ordinary with what was copied into a VM.
func tellNotes(e *env, vm api.VM) {
	copied := vm.Copies
	if vm.Workspace != nil {
		copied = append([]api.WorkspaceInfo{*vm.Workspace}, copied...)
	}
	for _, c := range copied {
		if c.Note != "" {
			e.notice("%s: %s", c.HostPath, c.Note)
		}
	}
}
