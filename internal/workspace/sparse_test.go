package workspace

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"banger/internal/api"
)

// pushSized is push, with how many bytes that took.
func pushSized(t *testing.T, repo string) (guest string, sent int64) {
	t.Helper()
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	guest = filepath.Join(t.TempDir(), "guest")
	err = plan.Push(t.Context(), func(_ context.Context, _ string, stream io.Reader) error {
		counted := &countedReader{r: stream}
		err := extract(guest, counted)
		sent = counted.n
		return err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return guest, sent
}

type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func makeSparse(t *testing.T, path string, size int64, at ...int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, offset := range at {
		if _, err := f.WriteAt([]byte("here"), offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// TestSparseFilesStaySo: holes are neither sent nor filled.
func TestSparseFilesStaySo(t *testing.T) {
	t.Parallel()
	const size = 40 << 20
	repo := newRepo(t)
	makeSparse(t, filepath.Join(repo, "hole"), size)
	makeSparse(t, filepath.Join(repo, "pieces"), size, 0, 1<<20, 20<<20, size-4)
	makeSparse(t, filepath.Join(repo, "small"), smallHole/2, 10)
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(repo, "hole"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Skipf("this file system has no holes: %d blocks, %v", st.Blocks, err)
	}
	guest, sent := pushSized(t, repo)
	if sent > 2<<20 {
		t.Errorf("%d bytes were sent", sent)
	}
	for _, name := range []string{"hole", "pieces", "small"} {
		if read(t, repo, name) != read(t, guest, name) {
			t.Errorf("%s differs", name)
		}
		if err := syscall.Stat(filepath.Join(guest, name), &st); err != nil || st.Blocks*512 > 1<<20 {
			t.Errorf("%s has %d blocks, %v", name, st.Blocks, err)
		}
	}
	checkSame(t, repo, guest)
}

// TestManyHoles: in a file with more pieces than are told apart, the last one has
// all the rest.
func TestManyHoles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "many")
	const size = 20 << 20
	makeSparse(t, path, size, 0, 4<<20, 8<<20, 12<<20, 12<<20+smallHole/2)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int]int{1: 1, 2: 2, 4: 4, maxSegments: 4} {
		pieces, err := contentOf(f, info, most)
		if err != nil || len(pieces) != want || pieces[0].Offset != 0 {
			t.Fatalf("%d: %v, %v", most, pieces, err)
		}
		if last := pieces[want-1]; want < 4 && last.Offset+last.Length != size {
			t.Errorf("%d: the last piece is %v", most, last)
		}
	}
}

// TestHardLinksStaySo: a file with several names is one file in the copy.
func TestHardLinksStaySo(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "one", "content\n")
	makeSparse(t, filepath.Join(repo, "hole"), 8<<20, 5)
	outside := filepath.Join(t.TempDir(), "outside")
	for from, to := range map[string]string{"one": "dir/two", "hole": "hole2", "a.txt": outside} {
		if !filepath.IsAbs(to) {
			to = filepath.Join(repo, to)
		}
		if err := os.Link(filepath.Join(repo, from), to); err != nil {
			t.Fatal(err)
		}
	}
	guest := push(t, api.Workspace{Path: repo})
	checkSame(t, repo, guest)
	for from, to := range map[string]string{"one": "dir/two", "hole": "hole2"} {
		x, err := os.Stat(filepath.Join(guest, from))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.Stat(filepath.Join(guest, to))
		if err != nil || !os.SameFile(x, y) || read(t, repo, from) != read(t, guest, to) {
			t.Errorf("%s and %s: %v", from, to, err)
		}
	}
}

// TestHolesOfAFileThatChanges: that a file becomes shorter while its holes are
// looked for is no error; whoever reads it then finds out.
func TestHolesOfAFileThatChanges(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "changes"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := make(chan struct{})
	var writer sync.WaitGroup
	defer writer.Wait()
	defer close(stop)
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := f.WriteAt([]byte("content"), size)
			if err := errors.Join(err, f.Truncate(0)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 100_000 {
		if _, _, err := nextContent(int(f.Fd()), 0, size); err != nil {
			t.Fatal(err)
		}
	}
}
