package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// elfFile returns a relocatable ELF file with a .modinfo section of the given
// entries; without one if entries is nil.
func elfFile(entries []string) []byte {
	const ehsize, shsize = 64, 64
	info := strings.Join(entries, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	at := uint64(ehsize)
	sections := []elf.Section64{{}}
	if entries != nil {
		sections = append(sections, elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))})
	}
	sections = append(sections, elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(names))})
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: at + uint64(len(info)+len(names)), Ehsize: ehsize, Shentsize: shsize,
		Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1),
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	// Writes to a bytes.Buffer don't fail.
	_ = binary.Write(&b, binary.LittleEndian, header)
	b.WriteString(info + names)
	_ = binary.Write(&b, binary.LittleEndian, sections)
	return b.Bytes()
}

// tree makes a directory of modules: file name → .modinfo entries.
func tree(t *testing.T, builtin string, modules map[string][]string) *moduleTree {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("modules.builtin", []byte(builtin))
	for name, entries := range modules {
		write(filepath.Join("kernel", name), elfFile(entries))
	}
	got, err := scanModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func want(names ...string) []wantedModule {
	var all []wantedModule
	for _, n := range names {
		name, optional := strings.CutSuffix(n, "?")
		all = append(all, wantedModule{name, !optional})
	}
	return all
}

func TestLoadOrder(t *testing.T) {
	mods := tree(t, "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-ring.ko\n", map[string][]string{
		"net/virtio_net.ko":      {"license=GPL", "depends=net_failover,virtio_ring"},
		"net/net_failover.ko":    {"depends=failover", "alias=x"},
		"net/failover.ko":        {"depends="},
		"char/virtio-rng.ko":     {"depends=rng-core"},
		"char/rng-core.ko":       {"description=no depends at all"},
		"a/cycle1.ko":            {"depends=cycle2"},
		"a/cycle2.ko":            {"depends=cycle1"},
		"a/broken.ko":            {"depends=nowhere"},
		"a/soft.ko":              {"depends=", "softdep=pre: crc-generic sha-alias post: failover"},
		"a/crc-generic.ko":       {"depends="},
		"a/sha-ni.ko":            {"depends=failover", "alias=sha_alias"},
		"a/sha-c.ko":             {"depends=", "alias=cpu:*", "alias=crypto-sha-alias", "alias=sha-alias"},
		"a/softcycle.ko":         {"depends=", "softdep=pre: softcycle2"},
		"a/softcycle2.ko":        {"depends=softcycle"},
		"vsock/transport.ko":     {"depends=transport_common,vsock"},
		"vsock/transport_common": nil, // not a module
		"vsock/vsock.ko":         {"depends="},
	})
	for _, tt := range []struct {
		name   string
		wanted []wantedModule
		order  string
		err    string
	}{
		{"built in", want("ext4", "virtio_ring"), "", ""},
		{"dependencies first", want("virtio_net"), "failover net_failover virtio_net", ""},
		{"each once", want("failover", "virtio_net", "net_failover"), "failover net_failover virtio_net", ""},
		{"dash and underscore", want("virtio_rng"), "rng-core virtio-rng", ""},
		{"optional and missing", want("ptp_kvm?", "failover"), "failover", ""},
		{"required and missing", want("virtio_blk"), "", "no module virtio_blk"},
		{"missing dependency", want("broken"), "", "load module broken: module nowhere is missing"},
		{"missing dependency of an optional one", want("transport?"), "", "module transport_common is missing"},
		{"cycle", want("cycle1"), "", "depends on itself"},
		{"soft dependency", want("soft"), "crc-generic sha-c failover sha-ni soft", ""},
		{"soft cycle", want("softcycle2"), "softcycle softcycle2", ""},
	} {
		files, err := mods.loadOrder(tt.wanted)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got error %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var names []string
		for _, f := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(f), ".ko"))
		}
		if diff := cmp.Diff(tt.order, strings.Join(names, " ")); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestModinfoErrors(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"empty.ko":      nil,
		"text.ko":       []byte("not an ELF file"),
		"no-section.ko": elfFile(nil),
		"truncated.ko":  elfFile([]string{"depends=a"})[:80],
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := readModinfo(path); err == nil {
			t.Errorf("%s: got %+v", name, info)
		}
	}
}

func TestUnpackModules(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "6.12.1-test")
	if err := os.MkdirAll(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "kernel", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write(content()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	xz, err := os.ReadFile("testdata/content.xz-plain")
	if err != nil {
		t.Fatal(err)
	}
	write("a.ko.gz", gz.Bytes())
	write("b.ko.zst", zst.Bytes())
	write("c.ko.xz", xz)
	write("d.ko", content())
	if n, err := unpackModules(t.Context(), dir); err != nil || n != 3 {
		t.Fatalf("%d modules, %v", n, err)
	}
	for _, name := range []string{"a.ko", "b.ko", "c.ko", "d.ko"} {
		got, err := os.ReadFile(filepath.Join(dir, "kernel", name))
		if err != nil || !bytes.Equal(got, content()) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "kernel"))
	if err != nil || len(entries) != 4 {
		t.Errorf("left: %v, %v", entries, err)
	}

	write("e.ko.xz", xz[:len(xz)/2])
	if _, err := unpackModules(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "e.ko.xz") {
		t.Errorf("half a module: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "kernel", "e.ko.xz")); err != nil {
		t.Fatal(err)
	}
	write("f.ko.br", nil)
	if _, err := unpackModules(t.Context(), dir); err == nil || !strings.Contains(err.Error(), `unknown compression "br"`) {
		t.Errorf("unknown compression: %v", err)
	}
}
