package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"banger/internal/api"
	"banger/internal/room"
)

// Create writes a bundle of files, of which the first is manifest.json, to the
// absolute path. The same files give the same bytes: owners, modes and times
// are left out. Holes in files take next to no room. The bundle appears when
// it is complete, and replaces a file of that name, but nothing else.
func Create(ctx context.Context, path string, files []File, pf api.ProgressFunc) (api.Exported, error) {
	if err := checkFiles(files); err != nil {
		return api.Exported{}, err
	}
	if err := checkTarget(path); err != nil {
		return api.Exported{}, err
	}
	out, err := createFile(path)
	if err != nil {
		return api.Exported{}, targetError(err, path)
	}
	defer out.discard()
	meter, err := newMeter(files, filepath.Base(path), pf)
	if err != nil {
		return api.Exported{}, err
	}
	sum := &summer{w: out.f, hash: sha256.New()}
	if err := write(ctx, sum, files, meter); err != nil {
		return api.Exported{}, room.Explain(fmt.Errorf("write %s: %w", path, err), filepath.Dir(path))
	}
	if err := out.commit(); err != nil {
		return api.Exported{}, targetError(err, path)
	}
	meter.finish()
	return api.Exported{Path: path, SHA256: hex.EncodeToString(sum.hash.Sum(nil)), Bytes: sum.n}, nil
}

// checkFiles finds mistakes of the caller.
func checkFiles(files []File) error {
	if len(files) == 0 || files[0].Name != ManifestName {
		return fmt.Errorf("a bundle begins with %s", ManifestName)
	}
	seen := make(map[string]bool)
	for _, f := range files {
		if !validName(f.Name) || seen[f.Name] {
			return fmt.Errorf("%q can't be a file's name in a bundle, or is there twice", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// checkTarget makes sure that nothing precious is at path.
func checkTarget(path string) error {
	if !filepath.IsAbs(path) {
		return api.Errorf(api.CodeInvalid, "%q is not an absolute path", path)
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return targetError(err, path)
	}
	if !info.Mode().IsRegular() {
		return api.Errorf(api.CodeInvalid, "%s is there and is not a regular file", path).WithHint("choose another name")
	}
	return nil
}

// targetError explains why a bundle can't be written.
func targetError(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeInvalid, "write %s: there is no directory %s", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.CodeHost, "write %s: %v", path, err).WithHint("choose a directory that you may write to")
	}
	return room.Explain(fmt.Errorf("write %s: %w", path, err), filepath.Dir(path))
}

// write writes the archive.
func write(ctx context.Context, w io.Writer, files []File, meter *meter) error {
	enc, err := newZeroEncoder(w)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(enc)
	for _, f := range files {
		if err := add(ctx, archive, f, meter); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return enc.Close()
}

// add writes one file into the archive.
func add(ctx context.Context, archive *tar.Writer, f File, meter *meter) error {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Path)
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	meter.file(f.Name)
	source := &contextReader{ctx: ctx, r: newHoleReader(file, info.Size()), onRead: meter.add}
	if _, err := io.CopyBuffer(archive, source, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

// contextReader fails when its context ends.
type contextReader struct {
	ctx    context.Context
	r      io.Reader
	onRead func(n int)
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.r.Read(p)
	r.onRead(n)
	return n, err
}

// summer hashes and counts what is written.
type summer struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}
