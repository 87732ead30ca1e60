// Package setup installs Firecracker and its jailer from the project's own
// release, for this user alone.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/download"
)

// The programs of a release, and their names once installed.
const (
	firecracker = "firecracker"
	jailer      = "jailer"
)

// Options says what to install and where.
type Options struct {
	Release  Release
	Mirror   string           // URL to use instead of the project's own; "": that
	Dir      string           // gets a directory per release
	CacheDir string           // where the download goes until it is unpacked
	Force    bool             // install it anew even if it is there
	Progress api.ProgressFunc // may be nil
	Client   *http.Client     // nil: one that takes proxies from the environment
	Retry    *download.Retry  // nil: transfer.DefaultRetry
	Log      *slog.Logger     // nil: none
}

// Installation is an installed release. Paths are absolute if those in
// Options are.
type Installation struct {
	Version     string `json:"version"`
	Firecracker string `json:"firecracker"`
	Jailer      string `json:"jailer"`
}

// Install installs a release for this machine unless it is there. The sum of
// the archive is checked before anything of it is unpacked, and a download
// that was cut off goes on where it stopped. Calls for one directory, in
// whatever process, take turns. If the release can't be had, the error is an
// api.CodeHost one that says so.
func Install(ctx context.Context, o Options) (Installation, error) {
	a, err := o.Release.archive()
	if err != nil {
		return Installation{}, err
	}
	if o.Mirror != "" && !strings.HasPrefix(o.Mirror, "https://") && !strings.HasPrefix(o.Mirror, "http://") {
		return Installation{}, api.Errorf(api.CodeInvalid, "the mirror %q is not a URL of http or https", o.Mirror)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return Installation{}, err
	}
	defer unlock()
	d := depot.New(o.Dir, load, o.Log)
	if err := d.Clean(ctx); err != nil {
		return Installation{}, err
	}
	job := depot.Job{
		Key:   a.sha256,
		Phase: "firecracker-install",
		Title: "installing Firecracker " + a.version,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return build(ctx, o, a, dir, report)
		},
	}
	var there Installation
	if o.Force {
		there, err = d.Replace(ctx, a.version, o.Progress, nil, job)
	} else {
		there, err = d.Ensure(ctx, a.version, o.Progress, job)
	}
	if err != nil {
		return Installation{}, explain(ctx, a, err)
	}
	return there, nil
}

// build downloads and unpacks an archive.
func build(ctx context.Context, o Options, a archive, dir string, report depot.Report) error {
	base := source
	if o.Mirror != "" {
		base = strings.TrimRight(o.Mirror, "/")
	}
	path := filepath.Join(o.CacheDir, a.name())
	err := download.File(ctx, base+"/"+a.version+"/"+a.name(), path, download.Options{
		SHA256:   a.sha256,
		MaxBytes: maxArchive,
		Progress: func(done, total int64) {
			report(fmt.Sprintf("downloading, %d of %d KiB", done>>10, total>>10), int(done*90/max(done, total, 1)))
		},
		Client: o.Client,
		Retry:  o.Retry,
		Log:    o.Log,
	})
	if err != nil {
		return err
	}
	report("unpacking", 90)
	err = unpack(ctx, path, a, dir)
	if rmErr := os.Remove(path); err == nil && rmErr != nil {
		return fmt.Errorf("remove the archive: %w", rmErr)
	}
	return err
}

// explain says that a release can't be had, and what that means.
func explain(ctx context.Context, a archive, err error) error {
	known := api.AsError(err)
	if ctx.Err() != nil || known.Code == api.CodeInternal {
		return err
	}
	return api.Errorf(api.CodeHost, "Firecracker %s can't be had, so VMs run on QEMU: %s", a.version, known.Msg).
		WithHint("%s", strings.TrimPrefix(known.Hint+"; a mirror can be named with --mirror", "; "))
}

// Installed returns the release in dir that is to be used: the pinned one, or
// else the newest.
func Installed(dir string) (Installation, bool) {
	if there, err := load(filepath.Join(dir, Pinned().Version)); err == nil {
		return there, true
	}
	all, err := depot.New(dir, load, slog.New(slog.DiscardHandler)).List()
	if err != nil || len(all) == 0 {
		return Installation{}, false
	}
	return slices.MaxFunc(all, func(a, b Installation) int {
		return slices.Compare(numbers(a.Version), numbers(b.Version))
	}), true
}

// numbers returns those of a version such as v1.16.1.
func numbers(version string) []int {
	n := make([]int, 3)
	if _, err := fmt.Sscanf(version, "v%d.%d.%d", &n[0], &n[1], &n[2]); err != nil {
		return nil // sorts before all others
	}
	return n
}

// load reads an installed release's directory.
func load(dir string) (Installation, error) {
	there := Installation{
		Version:     filepath.Base(dir),
		Firecracker: filepath.Join(dir, firecracker),
		Jailer:      filepath.Join(dir, jailer),
	}
	for _, path := range []string{there.Firecracker, there.Jailer} {
		info, err := os.Stat(path)
		if err != nil {
			return Installation{}, err
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return Installation{}, errors.Join(fmt.Errorf("%s is not a program", path), fs.ErrNotExist)
		}
	}
	return there, nil
}
