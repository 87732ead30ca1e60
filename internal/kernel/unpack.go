package kernel

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"golang.org/x/sync/errgroup"

	"banger/internal/guard"
)

// unpackModules replaces compressed modules below dir by uncompressed ones:
// guests need no tool for the compression then, and an emulated CPU spends no
// time on it. It returns how many there were.
func unpackModules(ctx context.Context, dir string) (int, error) {
	n := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		plain, extension, ok := strings.Cut(d.Name(), ".ko.")
		if !ok {
			return nil
		}
		n++
		target := filepath.Join(filepath.Dir(path), plain+".ko")
		g.Go(guard.ErrFunc("unpack a kernel module", func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := unpackFile(path, target, extension); err != nil {
				return fmt.Errorf("unpack module %s: %w", d.Name(), err)
			}
			return os.Remove(path)
		}))
		return nil
	})
	if waitErr := g.Wait(); waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// unpackFile writes the content of a compressed file to target, which gets the
// same time: it ends up in the file system of the modules.
func unpackFile(path, target, extension string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	var r io.Reader
	switch extension {
	case "xz":
		r, err = xz.NewReader(in, maxWindow)
	case "zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			defer d.Close()
			r = d
		}
	case "gz":
		r, err = gzip.NewReader(in)
	default:
		err = fmt.Errorf("unknown compression %q", extension)
	}
	if err != nil {
		return err
	}
	err = writeFile(target, func(w io.Writer) error {
		n, err := io.Copy(w, io.LimitReader(r, maxModule+1))
		if err == nil && n > maxModule {
			err = errModuleSize
		}
		return err
	})
	if err != nil {
		return err
	}
	return sameTime(in, target)
}

// copyFile copies a regular file, and its time, to a new one.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	err = writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err != nil {
		return err
	}
	return sameTime(in, to)
}

func sameTime(of *os.File, path string) error {
	info, err := of.Stat()
	if err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

// writeFile makes a file of what write writes.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
