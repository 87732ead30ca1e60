package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRaiseSetting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "max_things")
	for before, want := range map[string]string{"128\n": "8192", "8192\n": "8192", "100000\n": "100000"} {
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := raiseSetting(file, 8192); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(after)) != want {
			t.Errorf("%q became %q, %v", before, after, err)
		}
	}
	if err := raiseSetting(filepath.Join(t.TempDir(), "absent"), 1); err != nil {
		t.Errorf("a setting that the kernel lacks: %v", err)
	}
	if err := os.WriteFile(file, []byte("max\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := raiseSetting(file, 8192); err == nil {
		t.Error("no error for a setting that is no number")
	}
}

func TestUnitLimits(t *testing.T) {
	const file = "run/systemd/system.conf.d/00-banger.conf"
	for name, test := range map[string]struct {
		conf    string
		written bool
	}{
		"no configuration": {"", true},
		"defaults":         {"[Manager]\n#DefaultLimitNOFILE=1024:524288\n", true},
		"the image's own":  {"[Manager]\nDefaultLimitNOFILE=4096\n", false},
	} {
		root, dir, _ := newTestRoot(t)
		if test.conf != "" {
			if err := root.writeFile("/etc/systemd/system.conf", []byte(test.conf), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := raiseUnitLimits(root); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if written := strings.Contains(string(text), "\nDefaultLimitNOFILE=65536:1048576\n"); written != test.written || (err == nil) != test.written {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}
