package setup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/api"
	"banger/internal/tartest"
)

// FuzzArchive unpacks releases that nobody has published.
func FuzzArchive(f *testing.F) {
	a := archive{version: "v1", machine: "x86_64"}
	release := func(kind byte, names ...string) []byte {
		var entries []tartest.Entry
		for _, name := range names {
			e := tartest.Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o755, Linkname: "/etc/passwd"}}
			if kind == tar.TypeReg {
				e.Content = []byte("program")
				e.Size, e.Linkname = int64(len(e.Content)), ""
			}
			entries = append(entries, e)
		}
		return tartest.Tar(entries)
	}
	f.Add(release(tar.TypeReg, a.member(jailer), "../x", a.member(firecracker)), true)
	f.Add(release(tar.TypeSymlink, a.member(jailer), a.member(firecracker)), true)
	whole := release(tar.TypeReg, a.member(jailer))
	f.Add(whole[:512+3], true) // within the program
	f.Add([]byte("\x1f\x8b\x08\x00"), false)
	f.Fuzz(func(t *testing.T, data []byte, isTar bool) {
		if isTar {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write(tartest.Checksums(data)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			data = packed.Bytes()
		}
		outside := t.TempDir()
		dir, file := filepath.Join(outside, "dir"), filepath.Join(outside, "file")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		err := unpack(t.Context(), file, a, dir)
		if err != nil && !errors.Is(err, api.ErrInvalid) {
			t.Fatalf("the error is not about the archive: %v", err)
		}
		found, dirErr := os.ReadDir(dir)
		if dirErr != nil {
			t.Fatal(dirErr)
		}
		for _, e := range found {
			info, infoErr := e.Info()
			if infoErr != nil || e.Name() != firecracker && e.Name() != jailer || info.Mode() != 0o755 || info.Size() > maxProgram {
				t.Errorf("%s is there, %v (%v)", e.Name(), info, infoErr)
			}
		}
		if err == nil && len(found) != 2 {
			t.Errorf("%d programs are there", len(found))
		}
		if around, aroundErr := os.ReadDir(outside); aroundErr != nil || len(around) != 2 {
			t.Errorf("outside are %v (%v)", around, aroundErr)
		}
	})
}
