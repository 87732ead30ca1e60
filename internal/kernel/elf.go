package kernel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

const (
	// bannerPrefix begins linux_banner, the line that a kernel greets with
	// (init/version.c): "Linux version RELEASE (builder) …".
	bannerPrefix = "Linux version "
	// maxRelease is the room in struct new_utsname less the final zero.
	maxRelease = 64
	// bannerRoom is what has to be seen of a banner to know the release.
	bannerRoom = len(bannerPrefix) + maxRelease + 2
)

var (
	banner       = regexp.MustCompile(bannerPrefix + `([0-9]+\.[0-9][0-9A-Za-z.+~_-]{0,60}) \(`)
	validRelease = regexp.MustCompile(`^[0-9]+\.[0-9][0-9A-Za-z.+~_-]{0,60}$`)
)

// vmlinux is what a file of a kernel says of itself.
type vmlinux struct {
	Release string // as uname -r will say
	Bytes   int64
	SHA256  string // in hex
}

// readVmlinux reads a file and checks that a VMM can load it as a kernel.
func readVmlinux(path string) (vmlinux, error) {
	f, err := os.Open(path)
	if err != nil {
		return vmlinux{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return vmlinux{}, err
	}
	if info.Size() > maxVmlinux {
		return vmlinux{}, errors.New("the kernel is larger than 1 GiB")
	}
	if err := checkELF(f); err != nil {
		return vmlinux{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return vmlinux{}, err
	}
	hash := sha256.New()
	var found bannerFinder
	n, err := io.Copy(io.MultiWriter(hash, &found), f)
	if err != nil {
		return vmlinux{}, fmt.Errorf("read the kernel: %w", err)
	}
	if found.release == "" {
		return vmlinux{}, errors.New("the kernel doesn't say which release it is: it has no Linux banner")
	}
	return vmlinux{Release: found.release, Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// checkELF checks the header of an ELF file. Package debug/elf would read the
// rest as well, which can take several times the file's size of memory.
func checkELF(r io.Reader) error {
	var h elf.Header64
	if err := binary.Read(r, binary.LittleEndian, &h); err != nil {
		return fmt.Errorf("read the kernel's header: %w", err)
	}
	class, machine, kind := elf.Class(h.Ident[elf.EI_CLASS]), elf.Machine(h.Machine), elf.Type(h.Type)
	switch {
	case !hasPrefix(h.Ident[:], 0x7f, 'E', 'L', 'F'):
		return errors.New("the kernel is no ELF file")
	case class != elf.ELFCLASS64 || h.Ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB) || machine != elf.EM_X86_64 || kind != elf.ET_EXEC:
		return fmt.Errorf("the kernel is %v %v %v, not a 64-bit x86 executable", class, machine, kind)
	}
	return nil
}

// bannerFinder looks for the banner in what is written to it.
type bannerFinder struct {
	tail    []byte // the end of what came before, which may have a part of the banner
	release string
}

// Write never fails.
func (b *bannerFinder) Write(p []byte) (int, error) {
	if b.release != "" {
		return len(p), nil
	}
	seam := append(b.tail, p[:min(len(p), bannerRoom)]...)
	for _, text := range [][]byte{seam, p} {
		if m := find(text); m != "" {
			b.release = m
			return len(p), nil
		}
	}
	if len(p) < bannerRoom {
		b.tail = seam[max(0, len(seam)-bannerRoom):]
	} else {
		b.tail = append(b.tail[:0], p[len(p)-bannerRoom:]...)
	}
	return len(p), nil
}

// find returns the release of the first banner in text. Looking for its fixed
// beginning first is what makes it quick.
func find(text []byte) string {
	for {
		at := bytes.Index(text, []byte(bannerPrefix))
		if at < 0 {
			return ""
		}
		if m := banner.FindSubmatch(text[at:min(len(text), at+bannerRoom)]); m != nil {
			return string(m[1])
		}
		text = text[at+1:]
	}
}

// addVmlinux writes the ELF kernel that a file is or holds into dir, and what
// it is into m.
func addVmlinux(path, dir string, m *manifest) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read the kernel: %w", err)
	}
	// Opening anything else may wait for ever.
	if !info.Mode().IsRegular() || info.Size() > maxVmlinux {
		return fmt.Errorf("%s can't be a kernel: it is no file, or larger than 1 GiB", path)
	}
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the kernel: %w", err)
	}
	defer in.Close()
	target := filepath.Join(dir, vmlinuxFile)
	if err := writeFile(target, func(w io.Writer) error { return unpackKernel(in, w) }); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	v, err := readVmlinux(target)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	m.Release, m.VmlinuxBytes, m.VmlinuxSHA256 = v.Release, v.Bytes, v.SHA256
	return nil
}

// unpackKernel writes the ELF file of a vmlinux or a vmlinuz to w.
func unpackKernel(in io.Reader, w io.Writer) error {
	head := make([]byte, headerEnd)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	head = head[:n]
	rest := io.MultiReader(bytes.NewReader(head), in)
	if hasPrefix(head, 0x7f, 'E', 'L', 'F') {
		_, err := io.Copy(w, rest)
		return err
	}
	if !hasBootHeader(head) { // before reading all of what may be anything
		return errNoBootHeader
	}
	image, err := io.ReadAll(io.LimitReader(rest, maxVmlinuz+1))
	if err != nil {
		return err
	}
	if len(image) > maxVmlinuz {
		return errors.New("the compressed kernel is larger than 256 MiB")
	}
	boot, err := parseBootImage(image)
	if err != nil {
		return err
	}
	return boot.writeVmlinux(w)
}
