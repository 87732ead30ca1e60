package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/depot"
	"banger/internal/hosttool"
	"banger/internal/naming"
	"banger/internal/room"
)

// Import makes a kernel of copies of the user's own files: a vmlinux or a
// vmlinuz, and the directory of its modules, which may be missing if all that
// a boot needs is built in. The user's files are only read.
func (s *Store) Import(ctx context.Context, req api.ImportKernel, pf api.ProgressFunc) (api.Kernel, error) {
	if err := s.checkImport(ctx, req); err != nil {
		return api.Kernel{}, err
	}
	k, err := s.depot.Ensure(ctx, req.Name, pf, depot.Job{
		Key:   "import " + req.Image + " " + req.Modules,
		Phase: "kernel-import",
		Title: "importing kernel " + req.Name,
		Build: func(ctx context.Context, dir string, report depot.Report) error {
			return importKernel(ctx, req, s.arch, dir, report, s.log)
		},
	})
	if err != nil {
		return api.Kernel{}, fmt.Errorf("import kernel %s: %w", req.Name, err)
	}
	return s.describe(ctx, k)
}

// checkImport finds what is wrong with a request before any work.
func (s *Store) checkImport(ctx context.Context, req api.ImportKernel) error {
	if err := naming.CheckStored("a kernel", req.Name); err != nil {
		return err
	}
	if !filepath.IsAbs(req.Image) || (req.Modules != "" && !filepath.IsAbs(req.Modules)) {
		return api.Errorf(api.CodeInvalid, "import kernel %s: the paths of its files must be absolute", req.Name)
	}
	if _, ok := s.catalog(ctx).Kernel(req.Name); ok {
		return api.Errorf(api.CodeInvalid, "%s is the name of a kernel of the catalog", req.Name).
			WithHint("choose another name")
	}
	if _, err := s.depot.Get(req.Name); !errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeExists, "there is a kernel %s already", req.Name).
			WithHint("choose another name, or delete it first: banger kernel delete %s", req.Name)
	}
	return nil
}

// importKernel makes a kernel in the empty directory dir.
func importKernel(ctx context.Context, req api.ImportKernel, arch, dir string, report depot.Report, log *slog.Logger) error {
	report("reading the kernel", 0)
	m := manifest{Name: req.Name, Arch: arch, Origin: api.OriginImported, Source: req.Image, Created: time.Now().UTC()}
	if err := addVmlinux(req.Image, dir, &m); err != nil {
		return invalid(err, "give a vmlinux, or a vmlinuz of x86")
	}
	work := filepath.Join(dir, "work")
	// The place that depmod expects below its base directory.
	modules := filepath.Join(work, "lib", "modules")
	if err := os.MkdirAll(filepath.Join(modules, m.Release), 0o755); err != nil {
		return err
	}
	if req.Modules == "" {
		// Whether the kernel can do without can't be seen from outside.
		if err := addModulesImage(ctx, modules, dir, &m); err != nil {
			return err
		}
	} else if err := importModules(ctx, req.Modules, work, dir, &m, report, log); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the copied modules: %w", err)
	}
	return writeManifest(dir, m)
}

// importModules copies the user's modules below work and makes of them what a
// kernel needs in dir.
func importModules(ctx context.Context, source, work, dir string, m *manifest, report depot.Report, log *slog.Logger) error {
	if name := filepath.Base(source); name != m.Release {
		return api.Errorf(api.CodeInvalid, "the kernel is %s, but the modules are of %s", m.Release, name).
			WithHint("give the kernel's own directory, such as /lib/modules/%s", m.Release)
	}
	modules := filepath.Join(work, "lib", "modules")
	release := filepath.Join(modules, m.Release)
	report("copying modules", 10)
	if err := copyModules(ctx, source, release); err != nil {
		return invalid(err, "give the directory of the kernel's modules, such as /lib/modules/%s", m.Release)
	}
	report("unpacking modules", 40)
	compressed, err := unpackModules(ctx, release)
	if err != nil {
		return invalid(err, "the directory of modules may be damaged: install the kernel's package again")
	}
	// The index has file names, which unpacking has changed.
	if _, err := os.Stat(filepath.Join(release, "modules.dep.bin")); err != nil || compressed > 0 {
		report("indexing modules", 75)
		// Some distributions' depmod looks in usr/lib.
		if err := os.Symlink(".", filepath.Join(work, "usr")); err != nil {
			return err
		}
		args := []string{"-b", work, "-a", m.Release}
		if err := hosttool.Run(ctx, hosttool.Command{Tool: depmodTool(), Args: args, Log: log}); err != nil {
			return fmt.Errorf("index the modules: %w", err)
		}
	}
	return addModules(ctx, modules, dir, m, report)
}

// copyModules copies the files below a directory of modules. Links to files
// become files, for some distributions share modules between releases; others,
// which are to the kernel's headers, are left out.
func copyModules(ctx context.Context, source, target string) error {
	source, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		to := filepath.Join(target, strings.TrimPrefix(path, source))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			if d.Type() == fs.ModeSymlink {
				return nil
			}
			return err
		}
		return copyFile(path, to)
	})
}

// invalid turns an error about the user's files into one that says so; those
// of a full disk and of a cancelled call stay as they are.
func invalid(err error, hint string, args ...any) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || room.IsFull(err) {
		return err
	}
	return api.Errorf(api.CodeInvalid, "%v", err).WithHint(hint, args...)
}
