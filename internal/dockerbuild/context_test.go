package dockerbuild

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// write makes files below a directory; a name that ends in a slash is a
// directory, a content that begins with "-> " a symbolic link.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "-> "); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// read returns the files of a tar and their contents, or where links lead.
func read(t *testing.T, data []byte) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeSymlink {
			content = []byte("-> " + header.Linkname)
		}
		if header.Typeflag != tar.TypeDir {
			files[header.Name] = string(content)
		}
	}
}

func TestWriteContext(t *testing.T) {
	files := map[string]string{
		"main.go": "code", "link": "-> /etc/passwd", "a/b/c": "deep", "node_modules/x/y": "big", "secret": "s",
		"logs/one.log": "1", "logs/keep.log": "2",
	}
	for _, c := range []struct {
		name    string
		ignore  map[string]string
		missing []string
	}{
		{"nothing ignored", nil, nil},
		{"ignored", map[string]string{".dockerignore": "# a comment\nnode_modules\nsecret\n"}, []string{"node_modules/x/y", "secret"}},
		{"exceptions", map[string]string{".dockerignore": "logs\n!logs/keep.log\n"}, []string{"logs/one.log"}},
		{"the Dockerfile's own", map[string]string{".dockerignore": "secret\n", "Dockerfile.dockerignore": "a\n"}, []string{"a/b/c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, files)
			write(t, dir, c.ignore)
			req := api.BuildImage{File: filepath.Join(dir, "Dockerfile"), Context: dir}
			ignore, err := readIgnore(req)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := writeContext(&b, dir, ignore); err != nil {
				t.Fatal(err)
			}
			want := make(map[string]string)
			for _, set := range []map[string]string{files, c.ignore} {
				for name, content := range set {
					want[name] = content
				}
			}
			for _, name := range c.missing {
				delete(want, name)
			}
			if diff := cmp.Diff(want, read(t, b.Bytes())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadIgnoreFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{".dockerignore": "[\n"})
	_, err := readIgnore(api.BuildImage{File: filepath.Join(dir, "Dockerfile"), Context: dir})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), ".dockerignore") {
		t.Errorf("got %v", err)
	}
}

func TestWriteDockerfile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"My.docker": "FROM scratch\n", "My.docker.dockerignore": "x\n"})
	var b bytes.Buffer
	if err := writeDockerfile(&b, filepath.Join(dir, "My.docker")); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"Dockerfile": "FROM scratch\n", "Dockerfile.dockerignore": "x\n"}
	if diff := cmp.Diff(want, read(t, b.Bytes())); diff != "" {
		t.Error(diff)
	}
	if err := writeDockerfile(io.Discard, filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a Dockerfile: %v", err)
	}
}

func TestBuildCommand(t *testing.T) {
	got := buildCommand(api.BuildImage{Target: "prod", Args: map[string]string{"B": "2 3", "A": "1"}})
	want := []string{
		"env", "DOCKER_BUILDKIT=1", "docker", "build", "--progress", "plain", "--tag", "banger-build", "--file", "/root/build/Dockerfile",
		"--target", "prod", "--build-arg", "A=1", "--build-arg", "B=2 3", "/root/build/context",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A failed build quotes the end of what Docker said.
func TestTail(t *testing.T) {
	var seen []string
	said := newTail(func(line string) { seen = append(seen, line) })
	for _, piece := range []string{"one\ntw", "o\n\n  \nthree", "\n4\n5\n6\n7\n8\n9\nlast"} {
		if _, err := io.WriteString(said, piece); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := said.last(), "three | 4 | 5 | 6 | 7 | 8 | 9 | last"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"one", "two", "three", "4", "5", "6", "7", "8", "9", "last"}; !cmp.Equal(seen, want) {
		t.Errorf("saw %q", seen)
	}
}

// What a repository has in the place of the files that tell how to build doesn't
// make a build wait, and no file without end is read.
func TestBuildFilesThatAreNoFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "Dockerfile")
	long := bytes.Repeat([]byte("#"), maxText+1)
	for name, put := range map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"long":   func(path string) error { return os.WriteFile(path, long, 0o600) },
	} {
		if err := put(file); err != nil {
			t.Fatal(err)
		}
		if err := checkSyntax(file); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a %s for a Dockerfile: %v", name, err)
		}
		if err := writeDockerfile(io.Discard, file); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a %s for a Dockerfile that is copied: %v", name, err)
		}
		if err := os.Rename(file, filepath.Join(dir, ".dockerignore")); err != nil {
			t.Fatal(err)
		}
		if _, err := readIgnore(api.BuildImage{File: file, Context: dir}); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a %s for a .dockerignore: %v", name, err)
		}
	}
}
