package version

import (
	"runtime/debug"
	"testing"
)

func TestFromBuildInfo(t *testing.T) {
	setting := func(k, v string) debug.BuildSetting { return debug.BuildSetting{Key: k, Value: v} }
	tests := []struct {
		name string
		main string
		vcs  []debug.BuildSetting
		want string
	}{
		{"installed module", "v1.4.0", nil, "v1.4.0"},
		{"nothing recorded", "(devel)", nil, "devel"},
		{"commit", "(devel)", []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef0123"), setting("vcs.modified", "false")}, "devel-0123456789ab"},
		{"changed tree", "", []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef0123"), setting("vcs.modified", "true")}, "devel-0123456789ab-dirty"},
		{"short revision", "", []debug.BuildSetting{setting("vcs.revision", "abc")}, "devel-abc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			info := &debug.BuildInfo{Main: debug.Module{Version: tt.main}, Settings: tt.vcs}
			if got := fromBuildInfo(info); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStampWins(t *testing.T) {
	t.Cleanup(func() { stamped = "" })
	stamped = "v9"
	if got := String(); got != "v9" {
		t.Errorf("got %q, want the stamped version", got)
	}
}
