package catalog

import "slices"

// Image returns the image of that name.
func (c Catalog) Image(name string) (Image, bool) {
	i := slices.IndexFunc(c.Images, func(img Image) bool { return img.Name == name })
	if i < 0 {
		return Image{}, false
	}
	return c.Images[i], true
}

// Kernel returns the kernel of that name.
func (c Catalog) Kernel(name string) (Kernel, bool) {
	i := slices.IndexFunc(c.Kernels, func(k Kernel) bool { return k.Name == name })
	if i < 0 {
		return Kernel{}, false
	}
	return c.Kernels[i], true
}

// BundleFor returns the image's bundle for a machine.
func (i Image) BundleFor(arch string) (Bundle, bool) { return bundleFor(i.Bundles, arch) }

// BundleFor returns the kernel's bundle for a machine.
func (k Kernel) BundleFor(arch string) (Bundle, bool) { return bundleFor(k.Bundles, arch) }

func bundleFor(bundles []Bundle, arch string) (Bundle, bool) {
	i := slices.IndexFunc(bundles, func(b Bundle) bool { return b.Arch == arch })
	if i < 0 {
		return Bundle{}, false
	}
	return bundles[i], true
}

// Extend returns c with the images and kernels of other, which replace those
// of c that have the same name. Bases stay c's: recipes are complete already.
func (c Catalog) Extend(other Catalog) Catalog {
	return Catalog{
		Images:  merge(c.Images, other.Images, func(i Image) string { return i.Name }),
		Kernels: merge(c.Kernels, other.Kernels, func(k Kernel) string { return k.Name }),
		Bases:   c.Bases,
	}
}

// merge returns a with its elements replaced by those of b that have the same
// name, followed by the other ones of b.
func merge[T any](a, b []T, name func(T) string) []T {
	out := slices.Clone(a)
	at := make(map[string]int, len(out))
	for i, one := range out {
		at[name(one)] = i
	}
	for _, one := range b {
		if i, ok := at[name(one)]; ok {
			out[i] = one
			continue
		}
		at[name(one)] = len(out)
		out = append(out, one)
	}
	return out
}
