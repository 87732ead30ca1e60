package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/ctxreader"
	"banger/internal/image/oci/flatten"
	"banger/internal/regularfile"
	"banger/internal/room"
)

// Bounds on archives.
const (
	maxArchiveBytes   = 1 << 40 // unless LoadOptions say otherwise
	maxArchiveEntries = 1 << 16
	maxArchiveLinks   = 8
	maxArchivePath    = 4095 // Linux's PATH_MAX less the final zero
	maxManifest       = 4 << 20
)

// LoadOptions are the parameters of Load. The zero value is good.
type LoadOptions struct {
	// Dir is where an archive that is itself compressed is unpacked to. The
	// file stays there, for the layers are parts of it. Empty means the
	// archive's own directory.
	Dir string
	// Platform is as in Options.
	Platform string
	// MaxBytes bounds what a compressed archive may unpack to; 0 means 1 TiB.
	MaxBytes int64
}

// Load reads an image from an archive as `docker save` and `podman save` write
// it, in docker's own format or with an OCI layout in it, or from a directory
// with such a layout. The layers are read from there, when they are flattened
// and checked.
//
// Errors: api.CodeInvalid for what is no archive of one image, api.CodeNotFound
// if the image is for another platform.
func Load(ctx context.Context, path string, opts LoadOptions) (Image, error) {
	platform, err := parsePlatform(opts.Platform)
	if err != nil {
		return Image{}, err
	}
	a := &archive{wanted: wanted{filepath.Base(path), platform}}
	if isDir(path) {
		a.find = layoutDir{a.wanted, path}.find
		return a.fromLayout()
	}
	plain, err := unpacked(ctx, a.wanted, path, opts.Dir, cmp.Or(opts.MaxBytes, maxArchiveBytes))
	if err != nil {
		return Image{}, err
	}
	files, err := listTar(ctx, a.wanted, plain)
	if err != nil {
		return Image{}, err
	}
	a.find = files.find
	if files.has("index.json") {
		return a.fromLayout()
	}
	return a.fromDocker()
}

// IsArchive tells archives and layouts from bundles and from other files: a
// bundle begins with its manifest.json too, but that is no list of images.
func IsArchive(path string) bool {
	if isDir(path) {
		return true
	}
	f, err := regularfile.Open(path, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	plain, err := flatten.Decompress(f)
	if err != nil {
		return false
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	hdr, err := tr.Next()
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return false
	}
	if cleanName(hdr.Name) != "manifest.json" {
		return true
	}
	start := make([]byte, 1)
	_, err = io.ReadFull(tr, start)
	return err == nil && start[0] == '['
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// unpacked returns the path of the archive without its compression, if it has
// one.
func unpacked(ctx context.Context, w wanted, archive, dir string, most int64) (_ string, err error) {
	f, err := regularfile.Open(archive, 0)
	if err != nil {
		return "", fmt.Errorf("open the archive: %w", err)
	}
	defer f.Close()
	const magic = 257 // where a tar says what it is, POSIX.1-2001 pax
	head := make([]byte, magic+5)
	if n, err := f.ReadAt(head, 0); n == len(head) && string(head[magic:]) == "ustar" {
		return archive, nil
	} else if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the archive: %w", err)
	}
	plain, err := flatten.Decompress(ctxreader.New(ctx, f))
	if err != nil {
		return "", w.invalid("it is no tar: %v", err)
	}
	defer plain.Close()
	if dir == "" {
		dir = filepath.Dir(archive)
	}
	out, err := os.CreateTemp(dir, "archive-*.tar")
	if err != nil {
		return "", fmt.Errorf("create a file to unpack the archive to: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	n, err := io.Copy(out, io.LimitReader(plain, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("it has more than %d MiB", most>>20)
	}
	var host *fs.PathError
	switch {
	case room.IsFull(err):
		return "", room.Full(dir, "make room there and try again")
	case errors.As(err, &host), ctx.Err() != nil:
		return "", fmt.Errorf("unpack the archive: %w", err)
	case err != nil:
		return "", w.invalid("it is damaged: %v", err)
	}
	return out.Name(), nil
}

// archive is where the files of one image are.
type archive struct {
	wanted
	find func(name string) (section, error)
}

// section is where the content of a file is on the host.
type section struct {
	path         string
	offset, size int64
}

// layoutDir is a directory with the files of a layout.
type layoutDir struct {
	wanted
	dir string
}

func (d layoutDir) find(name string) (section, error) {
	root, err := os.OpenRoot(d.dir) // links don't lead out of it
	if err != nil {
		return section{}, fmt.Errorf("open the image's layout: %w", err)
	}
	defer root.Close()
	name = cleanName(name)
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return section{}, d.lacks(name)
	case err != nil:
		return section{}, fmt.Errorf("look for %q in the image's layout: %w", name, err)
	case !info.Mode().IsRegular():
		return section{}, d.invalid("%q in it is no regular file", name)
	}
	return section{filepath.Join(d.dir, name), 0, info.Size()}, nil
}

// tarFiles are the files of a tar, which are read by offset. Names in it are
// looked up among its own entries and never on the host.
type tarFiles struct {
	wanted
	files map[string]section
	links map[string]string // from old versions of docker, which linked layers that are there twice
}

// listTar finds the files. Of several with the same name the last one counts,
// as in an extraction.
func listTar(ctx context.Context, w wanted, file string) (*tarFiles, error) {
	f, err := regularfile.Open(file, 0)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	defer f.Close()
	t := &tarFiles{wanted: w, files: make(map[string]section), links: make(map[string]string)}
	tr := tar.NewReader(f)
	for range maxArchiveEntries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, t.invalid("it is damaged: %v", err)
		}
		if err := t.add(f, hdr); err != nil {
			return nil, err
		}
	}
	return nil, t.invalid("it has more than %d entries", maxArchiveEntries)
}

// add notes an entry, up to whose header the file has been read.
func (t *tarFiles) add(f *os.File, hdr *tar.Header) error {
	if len(hdr.Name) > maxArchivePath || len(hdr.Linkname) > maxArchivePath {
		return t.invalid("it has a path of more than %d bytes", maxArchivePath)
	}
	name := cleanName(hdr.Name)
	switch hdr.Typeflag {
	case tar.TypeReg:
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if isSparse(hdr) {
			return t.invalid("%q in it is a sparse file", name)
		}
		delete(t.links, name)
		t.files[name] = section{f.Name(), offset, hdr.Size}
	case tar.TypeSymlink:
		t.links[name] = cleanName(path.Join(path.Dir(name), hdr.Linkname))
	case tar.TypeLink:
		t.links[name] = cleanName(hdr.Linkname)
	}
	return nil
}

// isSparse reports whether what is in the archive isn't what is in the file.
func isSparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func cleanName(name string) string { return path.Clean("/" + name)[1:] }

func (t *tarFiles) has(name string) bool {
	_, ok := t.files[name]
	return ok
}

func (t *tarFiles) find(name string) (section, error) {
	at := cleanName(name)
	for range maxArchiveLinks {
		target, ok := t.links[at]
		if !ok {
			break
		}
		at = target
	}
	if s, ok := t.files[at]; ok {
		return s, nil
	}
	return section{}, t.lacks(name)
}

func (w wanted) lacks(name string) error { return w.invalid("it lacks the file %q", name) }

// read returns the content of a small file.
func (a *archive) read(name string, limit int64) ([]byte, error) {
	s, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if s.size > limit {
		return nil, a.invalid("%q in it has %d bytes", name, s.size)
	}
	f, err := regularfile.Open(s.path, 0)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	defer f.Close()
	data := make([]byte, s.size)
	if _, err := f.ReadAt(data, s.offset); err != nil {
		return nil, fmt.Errorf("read %q in the archive: %w", name, err)
	}
	return data, nil
}

// fromDocker reads docker's own format: manifest.json lists the files of each
// image.
func (a *archive) fromDocker() (Image, error) {
	raw, err := a.read("manifest.json", maxManifest)
	if err != nil {
		return Image{}, err
	}
	var images []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(raw, &images); err != nil {
		return Image{}, a.invalid("its manifest.json can't be read: %v", err)
	}
	if len(images) != 1 {
		return Image{}, a.several(len(images))
	}
	config, err := a.read(images[0].Config, maxConfig)
	if err != nil {
		return Image{}, err
	}
	ref := ""
	if tags := images[0].RepoTags; len(tags) > 0 {
		ref = tags[0]
	}
	var layers []section
	for _, name := range images[0].Layers {
		s, err := a.find(name)
		if err != nil {
			return Image{}, err
		}
		layers = append(layers, s)
	}
	return a.image(ref, digestOf(config), config, layers, nil)
}

// image puts an image together and checks that its parts belong together.
func (a *archive) image(ref, digest string, rawConfig []byte, layers []section, listed *v1.Platform) (Image, error) {
	config, err := readConfig(bytes.NewReader(rawConfig))
	if err != nil {
		return Image{}, a.invalid("%v", err)
	}
	if err := a.checkConfig(config, len(layers), listed); err != nil {
		return Image{}, err
	}
	img := Image{
		Digest:   digest,
		Platform: platformOf(config, listed).String(),
		Config:   newConfig(config),
	}
	if normal, err := NormalRef(ref); err == nil {
		img.Ref = normal
	}
	for i, s := range layers {
		img.Layers = append(img.Layers, flatten.Layer{
			Path: s.path, Offset: s.offset, Size: s.size, DiffID: config.RootFS.DiffIDs[i].String(),
		})
	}
	return img, nil
}

func (a *archive) several(n int) error {
	return a.invalid("it holds %d images instead of one", n)
}
