package dockerbuild

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"banger/internal/api"
	"banger/internal/regularfile"
)

// ignorer knows which files of a context Docker would not look at. Docker
// itself applies the same file once more in the VM; this spares the copy.
type ignorer struct {
	patterns *patternmatcher.PatternMatcher // nil if nothing is ignored
}

// readIgnore reads DOCKERFILE.dockerignore or else the context's .dockerignore,
// https://docs.docker.com/build/concepts/context/#dockerignore-files.
func readIgnore(req api.BuildImage) (*ignorer, error) {
	for _, path := range []string{req.File + ".dockerignore", filepath.Join(req.Context, ".dockerignore")} {
		data, err := readText(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines, err := ignorefile.ReadAll(bytes.NewReader(data))
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "read %s: %v", path, err)
		}
		patterns, err := patternmatcher.New(lines)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "%s: %v", path, err)
		}
		return &ignorer{patterns}, nil
	}
	return &ignorer{}, nil
}

// skip tells whether a path relative to the context is ignored.
func (i *ignorer) skip(name string) (bool, error) {
	if i.patterns == nil {
		return false, nil
	}
	return i.patterns.MatchesOrParentMatches(name)
}

// prunes tells whether nothing below an ignored directory can be wanted again.
func (i *ignorer) prunes() bool { return !i.patterns.Exclusions() }

// maxText bounds a Dockerfile and a list of what to ignore, in bytes.
const maxText = 1 << 20

// readText reads one of the files that tell how to build, which a stranger's
// repository may have put there.
func readText(path string) ([]byte, error) {
	data, err := regularfile.Read(path, 0, maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeInvalid, "read %s: %v", path, err)
	}
	return data, err
}

// writeDockerfile writes a tar of the Dockerfile and the ignore file that goes
// with it alone.
func writeDockerfile(w io.Writer, path string) error {
	tw := tar.NewWriter(w)
	for from, name := range map[string]string{path: "Dockerfile", path + ".dockerignore": "Dockerfile.dockerignore"} {
		data, err := readText(from)
		if errors.Is(err, fs.ErrNotExist) && from != path {
			continue
		}
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// writeContext writes a tar of a directory, less what is ignored. Sockets are
// left out, as Docker does.
func writeContext(w io.Writer, dir string, ignore *ignorer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tw := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if name != ".dockerignore" { // Docker in the VM needs it
			skip, err := ignore.skip(name)
			if err != nil {
				return err
			}
			if skip && entry.IsDir() && ignore.prunes() {
				return fs.SkipDir
			}
			if skip {
				return nil
			}
		}
		return addFile(tw, root, name, entry)
	})
	if err != nil {
		return fmt.Errorf("read the build's context: %w", err)
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, root *os.Root, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSocket != 0:
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = root.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Format = name, tar.FormatPAX
	if entry.IsDir() {
		header.Name += "/"
	}
	if err := tw.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(tw, f, header.Size)
	return err
}
