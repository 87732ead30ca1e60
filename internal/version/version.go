// Package version tells which build of banger this is.
package version

import "runtime/debug"

// stamped is set at link time for releases:
//
//	go build -ldflags "-X banger/internal/version.stamped=v1.2.3"
var stamped string

// String returns the version of this binary: the stamped one, else what the go
// command recorded (a module version or the commit), else "devel". banger and
// bangerd work together when theirs are equal.
func String() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return fromBuildInfo(info)
}

func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}
