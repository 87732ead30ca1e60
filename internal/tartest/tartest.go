// Package tartest makes tar archives of the bytes that a fuzzer comes up with.
// It is for tests only.
package tartest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	blockSize = 512
	// Offsets in a header, POSIX.1-2001 pax.
	checksumAt, checksumEnd = 148, 156
	magicAt                 = 257
	// flags is how many bytes of a program stand for an entry besides those
	// that are its name and its link's target.
	flags = 4
)

// Checksums returns data with the right checksum in each block that looks like
// the header of an entry, so that what is wrong in it elsewhere is read.
func Checksums(data []byte) []byte {
	data = bytes.Clone(data)
	for block := data; len(block) >= blockSize; block = block[blockSize:] {
		header := block[:blockSize]
		if !bytes.HasPrefix(header[magicAt:], []byte("ustar")) {
			continue
		}
		copy(header[checksumAt:checksumEnd], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[checksumAt:checksumEnd], fmt.Sprintf("%06o\x00 ", sum))
	}
	return data
}

// types are those of entries; regular files come more often than others.
var types = []byte{
	tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink,
	tar.TypeReg, tar.TypeDir, tar.TypeChar, tar.TypeFifo, tar.TypeBlock, tar.TypeReg,
}

// parts are what names are put together of.
var parts = []string{
	"a", "b", "c", "d", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", "\xff\n\x1b[2J",
	strings.Repeat("n", 255), strings.Repeat("m", 256), strings.Repeat("e/", 300), "usr",
}

var attributes = []string{
	"user.a", "user.b", "trusted.t", "security.capability", "system.posix_acl_access", "system.posix_acl_default",
	"strange", "user." + strings.Repeat("x", 250), "user.", "security.selinux",
}

// Entry is an entry of an archive with the content of a file.
type Entry struct {
	tar.Header
	Content []byte
}

// Entries makes entries of a program: for each a few bytes of flags, and then
// the parts of its name and of what it links to.
func Entries(program []byte) []Entry {
	var entries []Entry
	for len(program) > flags {
		kind, size, mode, extra := program[0], program[1], program[2], program[3]
		program = program[flags:]
		var e Entry
		e.Typeflag = types[int(kind&0x7f)%len(types)]
		e.Name, program = path(program)
		e.Mode = int64(mode) << 4 & 0o7777
		e.ModTime = time.Unix(int64(mode)<<24-1<<30, int64(size)*1000)
		switch e.Typeflag {
		case tar.TypeReg:
			e.Content = content(size)
			e.Size = int64(len(e.Content))
		case tar.TypeSymlink, tar.TypeLink:
			e.Linkname, program = path(program)
		case tar.TypeChar, tar.TypeBlock:
			e.Devmajor, e.Devminor = int64(size), int64(extra)<<8
		}
		if kind&0x80 != 0 {
			e.Uid, e.Gid = int(mode)<<16, int(extra)<<20
		}
		for i := range int(extra & 0xf) {
			name := attributes[(int(extra)+i)%len(attributes)]
			if e.PAXRecords == nil {
				e.PAXRecords = make(map[string]string)
			}
			e.PAXRecords["SCHILY.xattr."+name] = attribute(name, int(size)*(i+1))
		}
		entries = append(entries, e)
	}
	return entries
}

// path takes a length and so many parts from a program.
func path(program []byte) (string, []byte) {
	if len(program) == 0 {
		return "", nil
	}
	n := min(int(program[0]&0xf), len(program)-1)
	var names []string
	for _, b := range program[1 : n+1] {
		names = append(names, parts[int(b)%len(parts)])
	}
	return strings.Join(names, "/"), program[n+1:]
}

// content returns up to some blocks of data, zeros and both.
func content(size byte) []byte {
	data := bytes.Repeat([]byte{size}, int(size&0x3f)*700)
	if size&0x40 != 0 {
		clear(data[:len(data)/2])
	}
	return data
}

// attribute returns a value; those of access control lists are right mostly.
func attribute(name string, size int) string {
	if !strings.HasPrefix(name, "system.") {
		return strings.Repeat("v", size)
	}
	acl := "\x02\x00\x00\x00" + strings.Repeat("\x02\x00\x04\x00\xe8\x03\x00\x00", size%40)
	if size%17 == 0 {
		acl += "x"
	}
	return acl
}

// Tar writes entries. What no archive can hold is left out.
func Tar(entries []Entry) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		header := e.Header
		header.Format = tar.FormatPAX
		var one bytes.Buffer
		w := tar.NewWriter(&one)
		if w.WriteHeader(&header) != nil {
			continue
		}
		if _, err := w.Write(e.Content); err != nil || w.Flush() != nil {
			continue
		}
		b.Write(one.Bytes())
	}
	_, _ = io.WriteString(&b, strings.Repeat("\x00", 2*blockSize)) // never fails
	return b.Bytes()
}
