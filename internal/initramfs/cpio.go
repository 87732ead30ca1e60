package initramfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// File types and permissions as in stat(2)'s st_mode.
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeChar    = 0o020000
)

// entry is one file of an archive.
type entry struct {
	name         string // relative, without a leading slash
	mode         uint32
	size         int64
	major, minor uint32 // of a device node
}

// cpioWriter writes the "newc" archives that the kernel unpacks into its
// first root file system, as defined in the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. Owners are root
// and times are zero, so that equal content makes equal archives.
type cpioWriter struct {
	w       io.Writer
	inode   uint32
	written int64 // in all, for the alignment
	missing int64 // of the present file's content
	err     error
}

func newCPIOWriter(w io.Writer) *cpioWriter { return &cpioWriter{w: w} }

// add begins an entry. The content of a regular file follows by Write, exactly
// e.size bytes.
func (c *cpioWriter) add(e entry) error {
	if c.missing > 0 {
		return fmt.Errorf("add %s to the archive: %d bytes of the file before are missing", e.name, c.missing)
	}
	if e.size < 0 || e.size > 1<<32-1 {
		return fmt.Errorf("add %s to the archive: the format can't hold %d bytes", e.name, e.size)
	}
	if e.name == "" || strings.HasPrefix(e.name, "/") || strings.ContainsRune(e.name, 0) {
		return fmt.Errorf("add %q to the archive: bad name", e.name)
	}
	c.inode++
	links := uint32(1)
	if e.mode&typeDir != 0 {
		links = 2
	}
	c.header(c.inode, e, links)
	c.missing = e.size
	return c.err
}

// header writes "070701", 13 numbers of 8 hex digits, and the name with its
// terminating zero, padded to a multiple of four bytes in all.
func (c *cpioWriter) header(inode uint32, e entry, links uint32) {
	var b strings.Builder
	b.WriteString("070701")
	for _, n := range []uint32{
		inode, e.mode, 0 /* uid */, 0 /* gid */, links, 0, /* mtime */
		uint32(e.size), 0, 0 /* device that the file is on */, e.major, e.minor,
		uint32(len(e.name) + 1), 0, /* checksum, unused in this variant */
	} {
		fmt.Fprintf(&b, "%08x", n)
	}
	b.WriteString(e.name)
	b.WriteByte(0)
	c.write([]byte(b.String()))
	c.align()
}

// Write writes content of the present file.
func (c *cpioWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.missing {
		return 0, errors.New("write to the archive: the file is longer than announced")
	}
	c.write(p)
	if c.err != nil {
		return 0, c.err
	}
	c.missing -= int64(len(p))
	if c.missing == 0 {
		c.align()
	}
	return len(p), c.err
}

// Close writes the end marker. It doesn't close the underlying writer.
func (c *cpioWriter) Close() error {
	if c.missing > 0 {
		return fmt.Errorf("end the archive: %d bytes of the last file are missing", c.missing)
	}
	c.header(0, entry{name: "TRAILER!!!"}, 1)
	return c.err
}

func (c *cpioWriter) align() {
	if rest := c.written % 4; rest != 0 {
		c.write(make([]byte, 4-rest))
	}
}

func (c *cpioWriter) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.written += int64(n)
	c.err = err
}
