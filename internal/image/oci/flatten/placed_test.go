package flatten

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
	lt "banger/internal/image/oci/layertest"
)

// memoryPlacer keeps contents in memory, and lists what comes of them.
type memoryPlacer struct {
	*tar.Writer
	contents []byte
	reserved map[int64]int64
	broken   error
}

func (p *memoryPlacer) Reserve(size int64) (int64, error) {
	offset := int64(len(p.contents))
	p.contents = append(p.contents, make([]byte, size)...)
	p.reserved[offset] = size
	return offset, nil
}

func (p *memoryPlacer) WriteAt(b []byte, offset int64) (int, error) {
	return copy(p.contents[offset:], b), p.broken
}

func (p *memoryPlacer) WriteFile(hdr *tar.Header, offset int64) error {
	if p.reserved[offset] != hdr.Size {
		return fmt.Errorf("%s has %d bytes at %d", hdr.Name, hdr.Size, offset)
	}
	delete(p.reserved, offset)
	if err := p.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := p.Write(p.contents[offset : offset+hdr.Size])
	return err
}

func TestPlacer(t *testing.T) {
	zeros := strings.Repeat("\x00", 2*chunkSize)
	layers := layersOf(t,
		lt.Tar(t, lt.Reg("low", "low"), lt.Reg("gone", "1")),
		lt.Tar(t, lt.Reg("big", zeros+"end"), lt.Reg("kept", "kept"), lt.Link("link", "kept"), lt.Reg("hidden", "12"), lt.Reg("empty", "")),
		lt.Tar(t, lt.Reg("hidden", "other"), lt.Whiteout("gone")),
	)
	var b bytes.Buffer
	p := &memoryPlacer{Writer: tar.NewWriter(&b), reserved: make(map[int64]int64)}
	stats, err := Layers(context.Background(), layers, p, Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(zeros) + len("end"+"kept"+"low"+"other")); stats.Bytes != want || stats.Entries != 7 {
		t.Errorf("stats = %+v, want 7 entries and %d bytes", stats, want)
	}
	want := fmt.Sprintf("d 755 0:0 ./\nf 644 0:0 big %q\nf 644 0:0 empty \"\"\nf 644 0:0 hidden \"other\"\nf 644 0:0 kept \"kept\"\nh link = kept\nf 644 0:0 low \"low\"\n", zeros+"end")
	if got := lt.List(t, &b); got != want {
		t.Errorf("tree = %.300s", got)
	}
	// What was placed is that of the biggest layer, and one file isn't used.
	if len(p.reserved) != 1 || len(p.contents) != len(zeros)+len("end"+"kept"+"12") {
		t.Errorf("%d bytes were placed, of which %v are left", len(p.contents), p.reserved)
	}
}

func TestPlacerErrors(t *testing.T) {
	layers := layersOf(t, lt.Tar(t, lt.Reg("f", "x")))
	p := &memoryPlacer{Writer: tar.NewWriter(&bytes.Buffer{}), reserved: make(map[int64]int64), broken: syscall.ENOSPC}
	if _, err := Layers(context.Background(), layers, p, Options{}); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, api.ErrInvalid) {
		t.Errorf("error = %v, want that of the placer, which isn't the layer's", err)
	}
	p.broken = nil
	big := layersOf(t, lt.Tar(t, lt.Reg("f", strings.Repeat("x", 3000)), lt.Reg("g", strings.Repeat("x", 3000))))
	if _, err := Layers(context.Background(), big, p, Options{MaxBytes: 5000}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("error = %v, want api.ErrInvalid", err)
	}
}
