package workspace

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRemoveStale: what a killed process has left goes, what another one works
// with stays.
func TestRemoveStale(t *testing.T) {
	const roleVariable = "BANGER_TEST_TEMP"
	if os.Getenv(roleVariable) != "" {
		dir, _, err := makeTemp()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "large"), nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		println(dir) // to stderr
		select {}
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	start := func() (*exec.Cmd, string) {
		t.Helper()
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.timeout=120s")
		cmd.Env = append(os.Environ(), roleVariable+"=1")
		stderr, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
		line, err := bufio.NewReader(stderr).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return cmd, line[:len(line)-1]
	}
	killed, stale := start()
	_, used := start()
	own, remove, err := makeTemp()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, kept := t.TempDir(), filepath.Join(temp, tempPrefix+"link")
	if err := os.Symlink(elsewhere, kept); err != nil {
		t.Fatal(err)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed

	if err := RemoveStale(); err != nil {
		t.Error(err)
	}
	for dir, want := range map[string]bool{stale: false, used: true, own: true, kept: true, elsewhere: true} {
		if _, err := os.Lstat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", dir, err == nil, want)
		}
	}
	remove()
	if _, err := os.Lstat(own); err == nil {
		t.Error("the own directory stays")
	}
}
