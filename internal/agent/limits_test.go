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

func TestUnitDefaults(t *testing.T) {
	const files, stop = "DefaultLimitNOFILE=65536:1048576\n", "DefaultTimeoutStopSec=30\n"
	const head = "# Written by banger at every boot.\n[Manager]\n"
	for conf, want := range map[string]string{
		"": head + files + stop,
		"[Manager]\n#DefaultLimitNOFILE=1024:524288\n": head + files + stop,
		"[Manager]\nDefaultLimitNOFILE=4096\n":         head + stop,
		"DefaultTimeoutStopSec=5\n":                    head + files,
	} {
		root, dir, _ := newTestRoot(t)
		if conf != "" {
			if err := root.writeFile("/etc/systemd/system.conf", []byte(conf), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := setUnitDefaults(root); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "run/systemd/system.conf.d/00-banger.conf"))
		if err != nil || string(text) != want {
			t.Errorf("with %q: %q, %v", conf, text, err)
		}
	}
}
