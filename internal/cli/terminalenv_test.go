package cli

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banger/internal/api"
	"banger/internal/terminfo"
)

func TestTerminalEnv(t *testing.T) {
	for _, variable := range os.Environ() { // of whoever runs the tests
		for i, c := range variable {
			if name := variable[:i]; c == '=' && travelling(name) {
				t.Setenv(name, "")
				os.Unsetenv(name)
			}
		}
	}
	dir := t.TempDir()
	entry := append([]byte{0x1a, 0x01}, make([]byte, 30)...)
	if err := os.MkdirAll(filepath.Join(dir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x/xterm-mine"), entry, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"TERM": "xterm-mine", "TERMINFO": dir, "COLORTERM": "truecolor", "LANG": "de_DE.UTF-8", "LC_TIME": "en_GB.UTF-8", "LC_NAME": "C",
		"LC_ALL": "fr_FR.UTF-8", "SECRET": "mine",
	} {
		t.Setenv(name, value)
	}
	vm := api.VM{Env: map[string]string{"LC_TIME": "C"}, Config: &api.ImageConfig{Env: []string{"LANG=C.UTF-8"}}}
	got := terminalEnv(vm, map[string]string{"LC_ALL": "C", "A": "b"})
	want := map[string]string{"COLORTERM": "truecolor", "LC_NAME": "C", "LC_ALL": "C", "A": "b", terminfo.Variable: terminfo.Encode(entry)}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	t.Setenv("TERM", "nobody-has-this")
	if _, has := terminalEnv(api.VM{}, nil)[terminfo.Variable]; has {
		t.Error("an unknown terminal has a description")
	}

	target := sshTarget{terminfo: "abc"}
	if want := terminfo.Variable + "=abc"; !slices.Contains(target.argv(nil, nil), "SetEnv="+want) {
		t.Errorf("ssh isn't given %s", want)
	}
}
