package recipe

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/hosttool"
)

// addNPM fetches a package of the npm registry and adds what the recipe wants
// of it. The host's npm knows where packages come from, and checks that this
// one is what the registry says; that it is what the recipe says is checked
// here. No script of the package runs.
func addNPM(ctx context.Context, p catalog.NPMPackage, work string, add archive, log *slog.Logger) error {
	dir, err := os.MkdirTemp(work, "npm-")
	if err != nil {
		return err
	}
	err = hosttool.Run(ctx, hosttool.Command{
		Tool: hosttool.Tool{Name: "npm", Package: "npm"},
		Args: []string{"pack", "--ignore-scripts", "--pack-destination", dir,
			// Nothing of the build stays in the home directory.
			"--cache", filepath.Join(dir, "cache"), "--no-update-notifier", "--loglevel", "error",
			p.Package + "@" + p.Version},
		Dir: dir,
		Log: log,
	})
	if err != nil {
		return fmt.Errorf("fetch %s of npm: %w", p.Package, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("fetch %s of npm: it left %d packages instead of one", p.Package, len(found))
	}
	if err := checkIntegrity(found[0], p); err != nil {
		return err
	}
	if err := addFiles(found[0], p, add); err != nil {
		return fmt.Errorf("unpack %s of npm: %w", p.Package, err)
	}
	return os.RemoveAll(dir)
}

// checkIntegrity compares a package's file with the recipe's hash of it.
func checkIntegrity(file string, p catalog.NPMPackage) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read %s of npm: %w", p.Package, err)
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != p.Integrity {
		return api.Errorf(api.CodeHost, "%s %s of npm has the hash %s, the recipe wants %s", p.Package, p.Version, got, p.Integrity).
			WithHint("what arrived is not what the recipe's author saw; nothing of it was used")
	}
	return nil
}

// maxNPM is how many bytes the files of a package may have together, in which
// there is a program of some 100 MiB at most.
const maxNPM = 2 << 30

// addFiles adds the wanted files of a package, which has them below package/.
func addFiles(file string, p catalog.NPMPackage, add archive) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	missing := maps.Clone(p.Install)
	left := int64(maxNPM)
	for r := tar.NewReader(z); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, inside := strings.CutPrefix(path.Clean(hdr.Name), "package/")
		if hdr.Typeflag != tar.TypeReg || !inside || !filepath.IsLocal(name) {
			continue
		}
		to, mode := path.Join(p.Directory, name), hdr.FileInfo().Mode()&0o111|0o644
		if executable, wanted := p.Install[name]; wanted {
			to, mode = executable, 0o755
			delete(missing, name)
		} else if p.Directory == "" {
			continue
		}
		if left -= hdr.Size; left < 0 {
			return fmt.Errorf("its files have more than %d MiB", maxNPM>>20)
		}
		if err := add.copy(to, mode, hdr.Size, r); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("it lacks %d of the files that the recipe wants", len(missing))
	}
	return nil
}
