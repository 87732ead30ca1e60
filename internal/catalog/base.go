package catalog

import (
	"cmp"
	"fmt"
	"slices"
)

// maxBases bounds how many recipes one may stand on, so that a circle is found.
const maxBases = 8

// complete returns a recipe together with what it is based on.
func (c Catalog) complete(r ImageRecipe) (ImageRecipe, error) {
	for range maxBases {
		if r.Base == "" {
			return r, nil
		}
		base, ok := c.base(r.Base)
		if !ok {
			return ImageRecipe{}, fmt.Errorf("there is no base or image %q", r.Base)
		}
		r = extend(base, r)
	}
	return ImageRecipe{}, fmt.Errorf("base %q: recipes stand on each other in a circle", r.Base)
}

// base returns the recipe of a base or an image.
func (c Catalog) base(name string) (ImageRecipe, bool) {
	if r, ok := c.Bases[name]; ok && r != nil {
		return *r, true
	}
	if img, ok := c.Image(name); ok && img.Recipe != nil {
		base := *img.Recipe
		base.Distro, base.Kernel = img.Distro, img.Kernel
		return base, true
	}
	return ImageRecipe{}, false
}

// extend returns base with what r adds: single values of r win, lists follow
// those of base, and a file replaces the one of the same path.
func extend(base, r ImageRecipe) ImageRecipe {
	out := ImageRecipe{
		Distro:        cmp.Or(r.Distro, base.Distro),
		Kernel:        cmp.Or(r.Kernel, base.Kernel),
		Base:          base.Base,
		Suite:         cmp.Or(r.Suite, base.Suite),
		DownloadBytes: cmp.Or(r.DownloadBytes, base.DownloadBytes),
		Packages:      slices.Concat(base.Packages, r.Packages),
		DpkgOptions:   slices.Concat(base.DpkgOptions, r.DpkgOptions),
		NPM:           slices.Concat(base.NPM, r.NPM),
		Run:           slices.Concat(base.Run, r.Run),
		Empty:         slices.Concat(base.Empty, r.Empty),
		Remove:        slices.Concat(base.Remove, r.Remove),
		Masked:        slices.Concat(base.Masked, r.Masked),
		RealDirs:      slices.Concat(base.RealDirs, r.RealDirs),
	}
	for _, f := range base.Files {
		if !slices.ContainsFunc(r.Files, func(own File) bool { return own.Path == f.Path }) {
			out.Files = append(out.Files, f)
		}
	}
	out.Files = append(out.Files, r.Files...)
	return out
}
