package workspace

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

const (
	// bufferSize is what goes to the guest at a time.
	bufferSize = 256 << 10
	// smallFile is the size up to which a file is read as a whole before its
	// header is written, so that the two fit together whatever happens to it.
	smallFile = 1 << 20
	// maxTries is how often a big file that shrinks while it is being copied
	// is begun anew.
	maxTries = 3
)

// archive writes the tar stream. Owners are left to whoever unpacks it.
type archive struct {
	tar   *tar.Writer
	out   *bufio.Writer
	made  map[string]bool // directories that are in the stream
	links map[inode]sent  // files with several names that are
	buf   []byte
	meter *meter
}

func newArchive(w io.Writer, m *meter) *archive {
	out := bufio.NewWriterSize(w, bufferSize)
	return &archive{tar: tar.NewWriter(out), out: out, made: map[string]bool{".": true}, links: map[inode]sent{}, buf: make([]byte, smallFile), meter: m}
}

func (a *archive) close() error {
	return errors.Join(a.tar.Close(), a.out.Flush())
}

// directory adds a directory unless it is there.
func (a *archive) directory(name string, perm fs.FileMode, mtime time.Time) error {
	if a.made[name] {
		return nil
	}
	a.made[name] = true
	return a.header(&tar.Header{
		Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(perm.Perm() | 0o700), ModTime: mtime,
	})
}

// parents adds the directories above name as far as they are missing.
func (a *archive) parents(name string, mtime time.Time) error {
	dir := path.Dir(name)
	if a.made[dir] {
		return nil
	}
	if err := a.parents(dir, mtime); err != nil {
		return err
	}
	return a.directory(dir, 0o755, mtime)
}

func (a *archive) symlink(name, target string, mtime time.Time) error {
	return a.header(&tar.Header{
		Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: mtime,
	})
}

// data adds a file of known content.
func (a *archive) data(name string, perm fs.FileMode, mtime time.Time, content []byte) error {
	if err := a.header(fileHeader(name, perm, mtime, int64(len(content)))); err != nil {
		return err
	}
	if _, err := a.tar.Write(content); err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	a.meter.add(int64(len(content)))
	return nil
}

// stream adds a file of exactly size bytes from r.
func (a *archive) stream(name string, perm fs.FileMode, mtime time.Time, r io.Reader, size int64) error {
	if err := a.header(fileHeader(name, perm, mtime, size)); err != nil {
		return err
	}
	_, err := io.CopyBuffer(onlyWriter{a.tar}, a.meter.reader(io.LimitReader(r, size)), a.buf)
	if err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	return nil
}

// onlyWriter hides tar.Writer's ReadFrom, which would not use our buffer.
type onlyWriter struct{ io.Writer }

func fileHeader(name string, perm fs.FileMode, mtime time.Time, size int64) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: int64(perm.Perm()), ModTime: mtime, Size: size,
	}
}

func (a *archive) header(h *tar.Header) error {
	// Whole seconds, rounded down: git compares no more (core.checkStat), and
	// the fraction would cost a further header for each file.
	h.ModTime = time.Unix(h.ModTime.Unix(), 0)
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("send %s: %w", h.Name, err)
	}
	return nil
}

// hostFile adds a file of the host's that others may be writing to. It adds
// nothing if the file is gone or is no regular file any more.
func (a *archive) hostFile(name, hostPath string) error {
	for try := 1; ; try++ {
		whole, err := a.tryHostFile(name, hostPath)
		if err != nil || whole {
			return err
		}
		if try == maxTries {
			return fmt.Errorf("read %s: it keeps getting shorter while it is copied", hostPath)
		}
		// What unpacks the stream replaces the file by the next one of its name.
	}
}

// tryHostFile adds a file once. It reports false if the file became shorter
// than its header in the stream says, and then fills it up with zeros.
func (a *archive) tryHostFile(name, hostPath string) (whole bool, err error) {
	// Neither waits for the writer of a pipe, nor follows a link that has
	// taken the file's place.
	f, err := os.OpenFile(hostPath, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if isGone(err) || errors.Is(err, syscall.ELOOP) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("copy workspace: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("copy workspace: %w", err)
	}
	if !info.Mode().IsRegular() {
		return true, nil
	}
	if linked, err := a.link(name, info); linked || err != nil {
		return true, err
	}
	if whole, err = a.content(name, f, info); whole && err == nil {
		a.noteSent(name, info)
	}
	return whole, err
}

// content adds the content of a file, as tryHostFile does.
func (a *archive) content(name string, f *os.File, info fs.FileInfo) (whole bool, err error) {
	if pieces, err := contentOf(f, info, maxSegments); err != nil || pieces != nil {
		if err != nil {
			return false, fmt.Errorf("copy workspace: %w", err)
		}
		return a.sparseFile(name, f, info, pieces)
	}
	n, err := io.ReadFull(f, a.buf)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true, a.data(name, info.Mode(), info.ModTime(), a.buf[:n])
	case err != nil:
		return false, fmt.Errorf("copy workspace: %w", err)
	}
	size := max(info.Size(), int64(n))
	if err := a.header(fileHeader(name, info.Mode(), info.ModTime(), size)); err != nil {
		return false, err
	}
	return a.rest(name, f, n, size)
}

// rest sends the content of a big file: n bytes are in the buffer, the others
// follow from f.
func (a *archive) rest(name string, f io.Reader, n int, size int64) (whole bool, err error) {
	if _, err := a.tar.Write(a.buf[:n]); err != nil {
		return false, fmt.Errorf("send %s: %w", name, err)
	}
	a.meter.add(int64(n))
	missing := size - int64(n)
	copied, err := io.CopyBuffer(onlyWriter{a.tar}, a.meter.reader(io.LimitReader(f, missing)), a.buf)
	if err != nil {
		return false, fmt.Errorf("copy workspace: send %s: %w", name, err)
	}
	if missing -= copied; missing == 0 {
		return true, nil
	}
	clear(a.buf)
	for missing > 0 {
		n, err := a.tar.Write(a.buf[:min(missing, int64(len(a.buf)))])
		if err != nil {
			return false, fmt.Errorf("send %s: %w", name, err)
		}
		missing -= int64(n)
	}
	return false, nil
}

// isGone reports whether a path doesn't exist (any more).
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
