package flatten

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
)

// Whatever is stored comes back, and whole chunks of zeros take no space.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	s, err := newSpool(dir, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	zero, data := make([]byte, 3*chunkSize), bytes.Repeat([]byte("data"), chunkSize/2)
	buf := make([]byte, chunkSize)
	type stored struct {
		want []byte
		at   contents
	}
	var files []stored
	for _, parts := range [][][]byte{
		{[]byte("small")}, {data}, {zero}, {zero, data}, {data, zero}, {data, zero, data, zero, []byte("end")}, {{0}}, {zero[:100]},
	} {
		want := bytes.Join(parts, nil)
		at, err := s.store(bytes.NewReader(want), int64(len(want)), buf)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, stored{want, at})
	}
	for i, f := range files {
		if got, err := io.ReadAll(s.open(f.at)); err != nil || !bytes.Equal(got, f.want) {
			t.Errorf("file %d: %d bytes came back, want %d (%v)", i, len(got), len(f.want), err)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(s.f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if room := int64(6 * len(data)); st.Blocks*512 > room {
		t.Errorf("the spool takes %d bytes, want at most %d", st.Blocks*512, room)
	}
	if _, err := s.store(bytes.NewReader([]byte("cut")), 4, buf); err != io.ErrUnexpectedEOF {
		t.Errorf("cut contents: error = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the spool has a name: %v (%v)", left, err)
	}
}
