package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// allocated returns how many bytes f takes of the heap, in sum.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A kernel of zeros that claims to have a section in every 64 of its bytes
// compresses to next to nothing.
func TestKernelOfSections(t *testing.T) {
	const size = 256 << 20
	path := filepath.Join(t.TempDir(), vmlinuxFile)
	head := vmlinuxOf("6.1.0-test")
	binary.LittleEndian.PutUint64(head[40:], 1<<16)                           // where sections start
	binary.LittleEndian.PutUint16(head[60:], 0)                               // how many: the first one says it
	binary.LittleEndian.PutUint16(head[62:], 1)                               // the one with their names
	first := binary.LittleEndian.AppendUint64(make([]byte, 32), size/64-2048) // its size
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Write(head)
	if _, firstErr := f.WriteAt(first, 1<<16); errors.Join(err, firstErr, f.Truncate(size)) != nil {
		t.Fatal(err, firstErr)
	}
	got := allocated(func() {
		if _, err := readVmlinux(path); err != nil {
			t.Error(err)
		}
	})
	if got > 16<<20 {
		t.Errorf("reading it took %d MiB", got>>20)
	}
}

// bombs are module files that are small and aren't.
func bombs(t *testing.T) (gz, section []byte) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range maxModule>>20 + 1 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	gz = bytes.Clone(b.Bytes())

	b.Reset()
	const size = 64 << 20
	_ = binary.Write(&b, binary.LittleEndian, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: size, Addralign: 1})
	z := zlib.NewWriter(&b)
	if _, err := z.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	z.Close()
	section = elfFile([]string{b.String()})
	// The flags of the one section, of which the header is the last but one.
	binary.LittleEndian.PutUint64(section[len(section)-2*64+8:], uint64(elf.SHF_COMPRESSED))
	return gz, section
}

func TestModuleBombs(t *testing.T) {
	dir := t.TempDir()
	gz, section := bombs(t)
	from := filepath.Join(dir, "a.ko.gz")
	if err := os.WriteFile(from, gz, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unpackFile(from, filepath.Join(dir, "a.ko"), "gz"); !errors.Is(err, errModuleSize) {
		t.Errorf("a compressed module: got %v", err)
	}
	path := filepath.Join(dir, "b.ko")
	if err := os.WriteFile(path, section, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readModinfo(path); err == nil || !strings.Contains(err.Error(), "has 67108864 bytes") {
		t.Errorf("a compressed section: got %v", err)
	}
	if err := os.Truncate(path, maxModule+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readModinfo(path); !errors.Is(err, errModuleSize) {
		t.Errorf("a big module: got %v", err)
	}
}

func writeInput(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func FuzzVmlinux(f *testing.F) {
	f.Add(vmlinuxOf("6.1.0-56-cloud+x~1"))
	f.Add(vmlinuz([]byte("\x1f\x8b\x08\x00"), 10))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4 && binary.LittleEndian.Uint32(data[len(data)-4:]) > 1<<24 {
			return // as much is unpacked, which takes its time
		}
		var plain bytes.Buffer
		if err := unpackKernel(bytes.NewReader(data), &plain); err != nil {
			return
		}
		v, err := readVmlinux(writeInput(t, plain.Bytes()))
		if err == nil && (!validRelease.MatchString(v.Release) || v.Bytes != int64(plain.Len())) {
			t.Errorf("got %+v", v)
		}
	})
}

func FuzzModinfo(f *testing.F) {
	f.Add(elfFile([]string{"depends=a,b-c", "softdep=pre: d e post: f", "license=GPL"}))
	f.Add(elfFile(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := readModinfo(writeInput(t, data))
		if err != nil {
			return
		}
		for _, name := range append(info.depends, info.softdeps...) {
			if name == "" || strings.ContainsAny(name, "-\x00") {
				t.Errorf("it depends on %q", name)
			}
		}
	})
}

func FuzzUnpackModule(f *testing.F) {
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write(elfFile(nil))
	w.Close()
	f.Add(gz.Bytes(), uint8(0))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"), uint8(1))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00abc"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		path := writeInput(t, data)
		_ = unpackFile(path, path+".ko", []string{"gz", "xz", "zst"}[kind%3])
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"name":"x","release":"6.1.2","arch":"amd64","version":"1","boot_modules":["00-a.ko","01-b.ko"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		m := manifest{Release: "6.1.2", Arch: "amd64", BootModules: []string{"00-a.ko", "01-b.ko"}}
		put(t, dir, m)
		if err := os.WriteFile(filepath.Join(dir, manifestFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := checkUnpacked(dir, "amd64")
		if err != nil {
			return
		}
		if got.Release != m.Release || len(got.BootModules) != 2 || !plainText.MatchString(got.Version) || got.Source != "" || got.Origin != "" {
			t.Errorf("got %+v", got)
		}
	})
}
