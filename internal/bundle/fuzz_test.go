package bundle

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/tartest"
)

// A few KiB may hold any number of empty files, which take a host's inodes.
func TestTooManyFiles(t *testing.T) {
	headers := []*tar.Header{regular(ManifestName, 2)}
	for i := range maxFiles {
		headers = append(headers, regular(fmt.Sprint(i), 0))
	}
	if _, err := unpackBytes(t, archive(t, headers...), Options{}); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "files") {
		t.Errorf("got %v", err)
	}
	if _, err := unpackBytes(t, archive(t, headers[:maxFiles]...), Options{}); err != nil {
		t.Error(err)
	}
}

// endless is a hole, in which the caller changes its mind.
type endless struct{ cancel context.CancelFunc }

func (e endless) Read(p []byte) (int, error) {
	e.cancel()
	clear(p)
	return len(p), nil
}

func TestCancelledInHole(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(t.Context())
	x := &extraction{unpacking: &unpacking{}, root: root}
	if err := x.file(ctx, endless{cancel}, regular("hole", math.MaxInt64>>1), make([]byte, block)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// checkUnpacked fails if anything but files of an allowed size came of a
// bundle.
func checkUnpacked(t *testing.T, dir string, err error, most int64) {
	t.Helper()
	if err != nil && !errors.Is(err, api.ErrInvalid) && !strings.HasPrefix(err.Error(), "unpack ") {
		t.Fatalf("the error is not about the bundle: %v", err)
	}
	var size int64
	for name, data := range tree(t, dir) {
		if !validName(name) {
			t.Errorf("a file is called %q", name)
		}
		size += int64(len(data))
	}
	if size > most {
		t.Errorf("%d bytes were unpacked, %d are allowed", size, most)
	}
}

// FuzzUnpack unpacks archives of odd entries, some of which are right.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 1, 1, 0, 0, 0, 0, 2, 0, 4, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		entries := tartest.Entries(program[:min(len(program), 500)])
		manifest := tartest.Entry{Header: *regular(ManifestName, 2), Content: []byte("{}")}
		data := tartest.Tar(append([]tartest.Entry{manifest}, entries...))
		const most = 200_000
		dir, err := unpackBytes(t, compress(t, data), Options{MaxBytes: most, Allowed: func(name string) bool { return !strings.Contains(name, "usr") }})
		checkUnpacked(t, dir, err, most)
	})
}

// FuzzStream unpacks what no program has written.
func FuzzStream(f *testing.F) {
	plain := tartest.Tar([]tartest.Entry{
		{Header: *regular(ManifestName, 2), Content: []byte("{}")},
		{Header: *regular("a/b", 2), Content: []byte("12")},
	})
	f.Add(plain, true)
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\xa0\x00\x00\x00\x00\x00\x00"), false)
	f.Fuzz(func(t *testing.T, data []byte, isTar bool) {
		if isTar {
			data = compress(t, tartest.Checksums(data))
		}
		const most = 1 << 24
		dir, err := unpackBytes(t, data, Options{MaxBytes: most})
		checkUnpacked(t, dir, err, most)
	})
}
