package sshkey

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEnsureMakesOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ssh", "id_ed25519")
	first, err := Ensure(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Private != second.Private {
		t.Error("the second call made another key")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("private key has mode %v", info.Mode())
	}
}

func TestEnsureKeepsAnUnreadableKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(path, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(path); err == nil {
		t.Fatal("a broken key was accepted")
	}
	if data, _ := os.ReadFile(path); string(data) != "not a key" {
		t.Error("the user's file was overwritten")
	}
}
