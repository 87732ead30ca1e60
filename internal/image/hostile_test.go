package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/naming"
)

// A configuration of some megabytes may list a hundred thousand volumes, each a
// mount of its VMs.
func TestTooManyVolumes(t *testing.T) {
	var volumes []string
	for i := range 100_000 {
		volumes = append(volumes, fmt.Sprintf("/v%d", i))
	}
	if _, err := withVolumes(volumes); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "100000 volumes") {
		t.Errorf("got %v", err)
	}
	if _, err := withVolumes([]string{"/" + strings.Repeat("d/", maxRealDir)}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a path that is too long: %v", err)
	}
	dirs, err := withVolumes(volumes[:maxRealDirs-len(defaultRealDirs())])
	if err != nil || len(dirs) != maxRealDirs {
		t.Errorf("%d directories, %v", len(dirs), err)
	}
}

func TestManifestCheck(t *testing.T) {
	good := manifest{Arch: arch(), Kernel: "generic-6.1", RealDirs: []string{"/root"}}
	if err := good.check(arch()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*manifest){
		"arch":            func(m *manifest) { m.Arch = "vax" },
		"no kernel":       func(m *manifest) { m.Kernel = "" },
		"a path":          func(m *manifest) { m.Kernel = "../../etc" },
		"an option":       func(m *manifest) { m.Kernel = "--help" },
		"a terminal's":    func(m *manifest) { m.Kernel = "k\x1b[2J" },
		"a long kernel":   func(m *manifest) { m.Kernel = strings.Repeat("k", 64) },
		"the root":        func(m *manifest) { m.RealDirs = []string{"/"} },
		"dots":            func(m *manifest) { m.RealDirs = []string{"/a/../b"} },
		"no path at all":  func(m *manifest) { m.RealDirs = []string{"/a\x00b"} },
		"a mount too far": func(m *manifest) { m.RealDirs = slices.Repeat([]string{"/a"}, maxRealDirs+1) },
	} {
		m := good
		spoil(&m)
		if err := m.check(arch()); err == nil || len(err.Error()) > 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzManifest lets bundles say what they like of themselves.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"name":"../x","arch":"` + arch() + `","kernel":"generic-6.1","rootfs":"/etc/shadow","origin":"registered","real_dirs":["/root","/var/lib/docker"],"config":{"env":["A=b"]},"size_bytes":-1}`))
	f.Add([]byte(`{"arch":"` + arch() + `","kernel":"..","real_dirs":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		super := make([]byte, superblockAt+1024)
		binary.LittleEndian.PutUint16(super[superblockAt+magicAt:], magic)
		for name, content := range map[string][]byte{rootfsFile: super, manifestFile: data} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, peeked := decodeManifest(data)
		err := adopt(dir, manifest{Name: "mine", Source: "/bundle"}, "/bundle", "0123")
		if err != nil {
			if !errors.Is(err, api.ErrInvalid) {
				t.Fatalf("the error is not about the bundle: %v", err)
			}
			return
		}
		if peeked != nil {
			t.Errorf("what was refused before the download is taken after it: %v", peeked)
		}
		img, err := load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if img.Name != "mine" || img.Origin != api.OriginBundle || img.Source != "/bundle" || img.Digest != "sha256:0123" ||
			img.Rootfs != filepath.Join(dir, rootfsFile) || img.SizeBytes != int64(len(super)) {
			t.Errorf("the bundle decides what isn't its own: %+v", img)
		}
		if !naming.IsStored(img.Kernel) || img.Arch != arch() || len(img.RealDirs) > maxRealDirs {
			t.Errorf("got %+v", img)
		}
		for _, d := range img.RealDirs {
			if !path.IsAbs(d) || path.Clean(d) != d || len(d) > maxRealDir {
				t.Errorf("the directory %q", d)
			}
		}
	})
}
