package catalog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger/internal/naming"
	"banger/internal/weburl"
)

// Arches are the machines that banger knows, as Debian and Go call them.
var Arches = []string{"amd64", "arm64"}

var (
	suiteName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	// packageName is that of deb-control(5), perhaps with an architecture, a
	// version or a suite as apt takes them.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?([=/][A-Za-z0-9.+:~-]+)?$`)
	npmName     = regexp.MustCompile(`^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$`)
	npmVersion  = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+([+-][0-9A-Za-z.+-]+)?$`)
	unitName    = regexp.MustCompile(`^[A-Za-z0-9@_:.\\-]+\.[a-z]+$`)
)

// isEntryName wants what can be a directory of a store, and is easy to type.
func isEntryName(name string) bool { return naming.IsStored(name) && name == strings.ToLower(name) }

// check finds mistakes that would show only when an entry is used.
func (c Catalog) check() error {
	seen := make(map[string]bool)
	for _, img := range c.Images {
		if err := img.check(); err != nil {
			return fmt.Errorf("image %q: %w", img.Name, err)
		}
		if seen["image "+img.Name] {
			return fmt.Errorf("image %q is there twice", img.Name)
		}
		seen["image "+img.Name] = true
	}
	for _, k := range c.Kernels {
		if err := k.check(); err != nil {
			return fmt.Errorf("kernel %q: %w", k.Name, err)
		}
		if seen["kernel "+k.Name] {
			return fmt.Errorf("kernel %q is there twice", k.Name)
		}
		seen["kernel "+k.Name] = true
	}
	return nil
}

func (i Image) check() error {
	if err := checkEntry(i.Name, i.Arch, i.Bundles, i.Recipe != nil); err != nil {
		return err
	}
	switch {
	case i.Distro == "":
		return errors.New("distro is missing")
	case !isEntryName(i.Kernel):
		return fmt.Errorf("kernel %q is not a name", i.Kernel)
	case i.Recipe != nil:
		return i.Recipe.check()
	}
	return nil
}

func (k Kernel) check() error {
	if err := checkEntry(k.Name, k.Arch, k.Bundles, k.Recipe != nil); err != nil {
		return err
	}
	if k.Recipe == nil {
		return nil
	}
	if !suiteName.MatchString(k.Recipe.Suite) {
		return fmt.Errorf("suite %q is not the name of one", k.Recipe.Suite)
	}
	for _, arch := range k.Arch {
		if !packageName.MatchString(k.Recipe.Package[arch]) {
			return fmt.Errorf("package %q for %s is not the name of one", k.Recipe.Package[arch], arch)
		}
	}
	return nil
}

// checkEntry checks what images and kernels have in common.
func checkEntry(name string, arches []string, bundles []Bundle, recipe bool) error {
	if !isEntryName(name) {
		return errors.New("the name is not of up to 63 small letters, digits, '.', '_' and '-'")
	}
	if len(arches) == 0 {
		return errors.New("arch is missing")
	}
	for _, arch := range arches {
		if !slices.Contains(Arches, arch) {
			return fmt.Errorf("arch %q: want one of %s", arch, strings.Join(Arches, ", "))
		}
		if _, ok := bundleFor(bundles, arch); !ok && !recipe {
			return fmt.Errorf("there is neither a recipe nor a bundle for %s", arch)
		}
	}
	for _, b := range bundles {
		if err := b.check(arches); err != nil {
			return err
		}
	}
	return nil
}

func (b Bundle) check(arches []string) error {
	if !slices.Contains(arches, b.Arch) {
		return fmt.Errorf("bundle %s: arch %q is none of the entry's", weburl.Redact(b.URL), b.Arch)
	}
	u, err := url.Parse(b.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("bundle url %q: want http or https", weburl.Redact(b.URL))
	}
	// What isn't pinned would be whatever the server has that day.
	if !naming.IsSHA256(b.SHA256) {
		return fmt.Errorf("bundle %s: sha256 %q: want 64 hexadecimal digits", weburl.Redact(b.URL), b.SHA256)
	}
	return nil
}

func (r ImageRecipe) check() error {
	if !suiteName.MatchString(r.Suite) {
		return fmt.Errorf("suite %q is not the name of one", r.Suite)
	}
	if r.Kernel != "" && !isEntryName(r.Kernel) {
		return fmt.Errorf("kernel %q is not a name", r.Kernel)
	}
	for _, p := range r.Packages {
		if !packageName.MatchString(p) {
			return fmt.Errorf("package %q is not the name of one", p)
		}
	}
	for _, o := range r.DpkgOptions {
		if o == "" || strings.ContainsAny(o, "\n\x00") {
			return fmt.Errorf("dpkg option %q is not one line", o)
		}
	}
	for _, unit := range r.Masked {
		if !unitName.MatchString(unit) {
			return fmt.Errorf("masked: %q is not the name of a systemd unit", unit)
		}
	}
	for _, dir := range r.RealDirs {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return fmt.Errorf("real_dirs: %q is not an absolute path", dir)
		}
	}
	for _, p := range slices.Concat(r.Empty, r.Remove) {
		if err := checkInside(p); err != nil {
			return err
		}
	}
	for _, f := range r.Files {
		if err := checkInside(f.Path); err != nil {
			return err
		}
		if f.Mode == 0 || f.Mode&^0o7777 != 0 {
			return fmt.Errorf("file %s: mode %#o: want permissions such as 0o644", f.Path, f.Mode)
		}
	}
	for _, p := range r.NPM {
		if err := p.check(); err != nil {
			return fmt.Errorf("npm package %s: %w", p.Package, err)
		}
	}
	return nil
}

func (p NPMPackage) check() error {
	const prefix = "sha512-"
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, prefix))
	switch {
	case !npmName.MatchString(p.Package):
		return errors.New("not the name of a package")
	case !npmVersion.MatchString(p.Version):
		return fmt.Errorf("version %q: want an exact one, like 1.2.3", p.Version)
	case !strings.HasPrefix(p.Integrity, prefix) || err != nil || len(sum) != 64:
		return fmt.Errorf("integrity %q: want sha512-…, as in package-lock.json", p.Integrity)
	case !slices.Contains(Arches, p.Arch):
		return fmt.Errorf("arch %q: want one of %s", p.Arch, strings.Join(Arches, ", "))
	case len(p.Install) == 0 && p.Directory == "":
		return errors.New("install and directory are missing")
	}
	if p.Directory != "" {
		if err := checkInside(p.Directory); err != nil {
			return err
		}
	}
	for from, to := range p.Install {
		if err := errors.Join(checkInside(from), checkInside(to)); err != nil {
			return err
		}
	}
	return nil
}

// checkInside refuses paths that lead out of the tree that they are relative to.
func checkInside(p string) error {
	if !filepath.IsLocal(p) || p == "." {
		return fmt.Errorf("path %q: want one relative to the root of the tree, like etc/hosts", p)
	}
	return nil
}
