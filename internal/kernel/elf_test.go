package kernel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vmlinuxOf returns an ELF file that passes for the kernel of a release.
func vmlinuxOf(release string) []byte {
	return executable("some data", bannerPrefix+"%s", bannerPrefix+release+" (someone@somewhere) (a compiler) #1 SMP")
}

// executable is elfFile, but of a program.
func executable(entries ...string) []byte {
	data := elfFile(entries)
	binary.LittleEndian.PutUint16(data[16:], uint16(elf.ET_EXEC))
	return data
}

func TestReadVmlinux(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmlinux")
	for _, tt := range []struct {
		name string
		data []byte
		err  string
	}{
		{"a kernel", vmlinuxOf("6.1.0-56-cloud+x~1"), ""},
		{"a text", bytes.Repeat([]byte("no ELF "), 20), "no ELF file"},
		{"an object file", elfFile(nil), "ET_REL"},
		{"another program", executable("hello"), "no Linux banner"},
		{"a release with a path", vmlinuxOf("6.1/../../x"), "no Linux banner"},
	} {
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readVmlinux(path)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		sum := sha256.Sum256(tt.data)
		want := vmlinux{Release: "6.1.0-56-cloud+x~1", Bytes: int64(len(tt.data)), SHA256: hex.EncodeToString(sum[:])}
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
	if err := os.Truncate(path, maxVmlinux+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readVmlinux(path); err == nil || !strings.Contains(err.Error(), "larger than 1 GiB") {
		t.Errorf("a huge one: %v", err)
	}
}

// The banner must be found however the file is cut into pieces.
func TestBannerFinder(t *testing.T) {
	text := strings.Repeat("Linux vers", 40) + bannerPrefix + "%s" + strings.Repeat("x", 100) +
		bannerPrefix + "6.12.1-test (x@y) " + strings.Repeat("z", 200)
	for size := 1; size <= len(text); size++ {
		var f bannerFinder
		for at := 0; at < len(text); at += size {
			if n, err := f.Write([]byte(text[at:min(len(text), at+size)])); err != nil || n == 0 {
				t.Fatalf("pieces of %d: wrote %d, %v", size, n, err)
			}
		}
		if f.release != "6.12.1-test" {
			t.Errorf("pieces of %d: found %q", size, f.release)
		}
	}
}
