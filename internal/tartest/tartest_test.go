package tartest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
)

func names(t *testing.T, archive []byte) []string {
	t.Helper()
	var all []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

func TestChecksums(t *testing.T) {
	archive := Tar([]Entry{{Header: tar.Header{Typeflag: tar.TypeReg, Name: "name", Size: 5}, Content: []byte("12345")}})
	archive[1] = 'o'
	if _, err := tar.NewReader(bytes.NewReader(archive)).Next(); !errors.Is(err, tar.ErrHeader) {
		t.Fatalf("a changed header is read: %v", err)
	}
	if got := names(t, Checksums(archive)); len(got) != 1 || got[0] != "nome" {
		t.Errorf("got %q", got)
	}
}

func TestEntries(t *testing.T) {
	entries := Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})
	if len(entries) != 2 || entries[0].Name != "a/b" || entries[0].Size != 2100 || len(entries[0].PAXRecords) != 2 ||
		entries[1].Name != "c" || entries[1].Linkname != "../a" {
		t.Fatalf("got %+v", entries)
	}
	if got := names(t, Tar(entries)); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}
