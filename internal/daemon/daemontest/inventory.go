package daemontest

import (
	"slices"

	"banger/internal/api"
)

// find returns the thing of that name, which users call noun.
func find[T any](noun, name string, all []T, err error, nameOf func(T) string) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(all, func(one T) bool { return nameOf(one) == name })
	if i < 0 {
		return none, api.Errorf(api.CodeNotFound, "there is no %s %q on this host", noun, name).WithHint("run: banger %s list", noun)
	}
	return all[i], nil
}

// removal is a prune under way.
type removal struct {
	pruned api.Pruned
	dryRun bool
}

// take notes that a thing goes, and has remove do it unless this is only to tell.
func (r *removal) take(kind, name string, bytes int64, remove func()) {
	r.pruned.Removed = append(r.pruned.Removed, api.PrunedItem{Kind: kind, Name: name, Bytes: bytes})
	r.pruned.Bytes += bytes
	if !r.dryRun {
		remove()
	}
}
