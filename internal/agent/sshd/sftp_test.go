package sshd

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"
)

func TestSFTP(t *testing.T) {
	c := serve(t, nil).client()
	files, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	want := make([]byte, 3<<20+7)
	_, _ = (&noise{}).Read(want)
	path := filepath.Join(t.TempDir(), "file")

	put, err := files.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put.ReadFrom(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if err := put.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("put %d bytes, found %d, %v", len(want), len(got), err)
	}
	if err := files.Chmod(path, 0o751); err != nil {
		t.Fatal(err)
	}
	get, err := files.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer get.Close()
	if got, err := io.ReadAll(get); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	if info, err := get.Stat(); err != nil || info.Mode().Perm() != 0o751 {
		t.Errorf("stat: %v, %v", info, err)
	}
}

func TestSFTPNotConfigured(t *testing.T) {
	c := serve(t, func(c *Config) { c.SFTPServer = nil }).client()
	if files, err := sftp.NewClient(c); err == nil {
		_ = files.Close()
		t.Error("there is a server")
	}
}
