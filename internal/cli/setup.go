package cli

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
	"banger/internal/setup"
)

// versionTimeout bounds the wait for an installed program's version.
const versionTimeout = 10 * time.Second

// setupOptions are the flags of setup.
type setupOptions struct {
	mirror string
	force  bool
	out    outcome
}

func newSetup(e *env) *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Install Firecracker for this user",
		Long: `Download the Firecracker release that banger is made for, check its sum, and
install it with its jailer in banger's own data directory, without root. A
download that was cut off goes on where it stopped.

VMs use Firecracker where KVM works. Without it they run on QEMU.`,
		Example: `  banger setup
  banger setup --mirror https://mirror.example.com/firecracker`,
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSetup(cmd.Context(), e, o, setup.Pinned())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.mirror, "mirror", "", "download from `URL`/VERSION/firecracker-VERSION-MACHINE.tgz instead of the project's own releases")
	f.BoolVar(&o.force, "force", false, "install it anew even if it is there")
	o.out.addFlags(e, cmd, "what is installed", "")
	return cmd
}

func runSetup(ctx context.Context, e *env, o setupOptions, release setup.Release) error {
	there, err := installFirecracker(ctx, e, o, release)
	if err != nil {
		return err
	}
	return o.out.print(e, there)
}

// installFirecracker installs a release unless it is there, shows how far that
// is, and tells in one line what it did.
func installFirecracker(ctx context.Context, e *env, o setupOptions, release setup.Release) (setup.Installation, error) {
	layout, err := e.layout()
	if err != nil {
		return setup.Installation{}, err
	}
	dir := layout.FirecrackerDir()
	before, found := setup.Installed(dir)
	display := progress.New(e.rawStderr, e.drawable, e.now)
	there, err := setup.Install(ctx, setup.Options{
		Release:  release,
		Mirror:   o.mirror,
		Dir:      dir,
		CacheDir: layout.DownloadsDir(),
		Force:    o.force,
		Progress: e.showing(display),
	})
	display.Close()
	if err != nil {
		return there, err
	}
	if err := checkVersion(ctx, there); err != nil {
		return there, err
	}
	if found && before == there && !o.force {
		e.done("Firecracker %s is installed already: %s", there.Version, there.Firecracker)
	} else {
		e.done("installed Firecracker %s: %s", there.Version, there.Firecracker)
	}
	return there, nil
}

// checkVersion makes sure that the installed Firecracker runs on this host and
// is what its directory says.
func checkVersion(ctx context.Context, there setup.Installation) error {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, there.Firecracker, "--version").Output()
	if err != nil {
		return api.Errorf(api.CodeHost, "the installed Firecracker doesn't run on this host: %v", err).
			WithHint("see whether %s is on a file system that is mounted with noexec", filepath.Dir(there.Firecracker))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if !strings.Contains(line, there.Version) {
		return api.Errorf(api.CodeHost, "%s is not Firecracker %s: it says %q", there.Firecracker, there.Version, line).
			WithHint("install it anew: banger setup --force")
	}
	return nil
}
