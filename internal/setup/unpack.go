package setup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/filelock"
	"banger/internal/room"
)

// Bounds of what is taken for a release: archives have about 8 MiB, programs
// 4 MiB.
const (
	maxArchive = 256 << 20
	maxProgram = 128 << 20
)

// unpack writes the programs of the archive at file into dir.
func unpack(ctx context.Context, file string, a archive, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return a.damaged(err)
	}
	missing := map[string]string{a.member(firecracker): firecracker, a.member(jailer): jailer}
	for members := tar.NewReader(zipped); len(missing) > 0; {
		header, err := members.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a.damaged(err)
		}
		name := path.Clean(header.Name)
		program, wanted := missing[name]
		if !wanted {
			continue
		}
		if header.Typeflag != tar.TypeReg || header.Size > maxProgram {
			return a.damaged(fmt.Errorf("%s is not a program", name))
		}
		content := &packedProgram{from: members}
		err = write(ctx, content, filepath.Join(dir, program))
		if content.err != nil {
			return a.damaged(content.err)
		}
		if err != nil {
			return room.Explain(fmt.Errorf("unpack %s: %w", program, err), dir)
		}
		delete(missing, name)
	}
	for name := range missing {
		return a.damaged(fmt.Errorf("%s is not in it", name))
	}
	return nil
}

// damaged is the error about an archive that has the right sum and still isn't
// what it should be.
func (a archive) damaged(err error) error {
	return api.Errorf(api.CodeInvalid, "the archive %s can't be used: %v", a.name(), err)
}

// packedProgram is a program in an archive; it notes why it can't be read further, which isn't the writer's fault.
type packedProgram struct {
	from io.Reader
	err  error
}

func (p *packedProgram) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// write writes a program.
func write(ctx context.Context, r io.Reader, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Chmod(0o755); err != nil { // whatever the umask
		return err
	}
	return f.Close()
}

// lock makes dir and waits until no other Install works in it.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, room.Explain(fmt.Errorf("create Firecracker's directory: %w", err), dir)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open Firecracker's directory: %w", err)
	}
	if err := filelock.Wait(ctx, f); err != nil {
		f.Close()
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("lock Firecracker's directory: %w", err)
	}
	return func() { f.Close() }, nil
}
