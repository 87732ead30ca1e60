package workspace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

const (
	// smallHole is the size up to which a hole is sent as zeros: it costs less
	// than its line in the map.
	smallHole = 64 << 10
	// maxSegments bounds the map of a file; holes after so many pieces are sent as
	// zeros. A header of a tar may have a MiB, a piece takes up to 40 bytes.
	maxSegments = 10_000
)

// contentOf lists up to most pieces of a file that are not in holes, nil if it has
// no holes that are worth it.
func contentOf(f *os.File, info fs.FileInfo, most int) ([]guest.Segment, error) {
	const block = 512 // of st_blocks, whatever the file system
	stat, ok := info.Sys().(*syscall.Stat_t)
	size := info.Size()
	if !ok || stat.Blocks*block > size-smallHole {
		return nil, nil
	}
	content := []guest.Segment{}
	for at := int64(0); at < size; {
		from, to, err := nextContent(int(f.Fd()), at, size)
		if err != nil {
			return nil, fmt.Errorf("look for holes in %s: %w", f.Name(), err)
		}
		last := len(content) - 1
		switch {
		case last >= 0 && from-at < smallHole:
			content[last].Length = to - content[last].Offset
		case last+1 == most:
			content[last].Length = size - content[last].Offset
			return content, nil
		case from < to:
			content = append(content, guest.Segment{Offset: from, Length: to - from})
		}
		at = to
	}
	return content, nil
}

// nextContent finds the first piece of content at or behind an offset; it is
// empty, and at the end of the file, if only a hole is left. Where a file system
// can't tell, all is content.
func nextContent(fd int, at, size int64) (from, to int64, err error) {
	from, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL):
		return at, size, nil
	case err != nil:
		return 0, 0, err
	}
	to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	switch {
	case errors.Is(err, unix.ENXIO): // the file has just become shorter, which its reader will find out
		return min(from, size), size, nil
	case err != nil:
		return 0, 0, err
	}
	return min(from, size), min(to, size), nil
}

// sparseFile adds a file without its holes. Like tryHostFile it reports false if
// the file became shorter.
func (a *archive) sparseFile(name string, f *os.File, info fs.FileInfo, content []guest.Segment) (whole bool, err error) {
	var pieces []io.Reader
	inStream := int64(0)
	for _, s := range content {
		pieces = append(pieces, io.NewSectionReader(f, s.Offset, s.Length))
		inStream += s.Length
	}
	h := fileHeader(name, info.Mode(), info.ModTime(), inStream)
	h.PAXRecords = map[string]string{guest.SparseRecord: guest.FormatSparse(info.Size(), content)}
	if err := a.header(h); err != nil {
		return false, err
	}
	a.meter.add(info.Size() - inStream)
	return a.rest(name, io.MultiReader(pieces...), 0, inStream)
}
