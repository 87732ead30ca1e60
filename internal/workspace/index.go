package workspace

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// sharedIndex reads from an index which other one it is the difference to; ""
// for a whole one. The format is that of gitformat-index(5); size is that of
// the file and hashSize that of the repository's object names, in bytes. What
// is no index of a version that has the extension is left for git to judge.
func sharedIndex(r io.Reader, size int64, hashSize int) (string, error) {
	in := &indexReader{entry: make([]byte, stateSize+hashSize+2), r: bufio.NewReaderSize(r, 64<<10), left: size - int64(hashSize)} // a checksum is at the end
	var header struct {
		Signature        [4]byte
		Version, Entries uint32
	}
	if err := binary.Read(in, binary.BigEndian, &header); err != nil {
		return "", fmt.Errorf("it has no header: %w", err)
	}
	if string(header.Signature[:]) != "DIRC" || header.Version < 2 || header.Version > 4 {
		return "", nil
	}
	for range header.Entries {
		if err := in.skipEntry(header.Version); err != nil {
			return "", fmt.Errorf("it is damaged: %w", err)
		}
	}
	for in.left > 0 {
		var extension struct {
			Signature [4]byte
			Size      uint32
		}
		if err := binary.Read(in, binary.BigEndian, &extension); err != nil {
			return "", fmt.Errorf("it is damaged: %w", err)
		}
		if string(extension.Signature[:]) == "link" {
			id := make([]byte, hashSize)
			if _, err := io.ReadFull(in, id); err != nil {
				return "", fmt.Errorf("it is damaged: %w", err)
			}
			if allZero(id) {
				return "", nil
			}
			return hex.EncodeToString(id), nil
		}
		if err := in.skip(int64(extension.Size)); err != nil {
			return "", fmt.Errorf("it is damaged: %w", err)
		}
	}
	return "", nil
}

// indexReader reads up to where the checksum begins.
type indexReader struct {
	r     *bufio.Reader
	left  int64
	entry []byte // an entry up to its flags
}

func (in *indexReader) Read(p []byte) (int, error) {
	if in.left <= 0 {
		return 0, io.EOF
	}
	n, err := in.r.Read(p[:min(int64(len(p)), in.left)])
	in.left -= int64(n)
	return n, err
}

func (in *indexReader) skip(n int64) error {
	if n > in.left {
		return io.ErrUnexpectedEOF
	}
	_, err := io.CopyN(io.Discard, in, n)
	return err
}

// stateSize is how much of an entry is a file's state. The object's name,
// flags and the path follow.
const stateSize = 40

// skipEntry skips one entry.
func (in *indexReader) skipEntry(version uint32) error {
	const lengthMask, extended = 0xfff, 0x4000
	if _, err := io.ReadFull(in, in.entry); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint16(in.entry[len(in.entry)-2:])
	size := int64(len(in.entry))
	if version >= 3 && flags&extended != 0 {
		if err := in.skip(2); err != nil {
			return err
		}
		size += 2
	}
	if version == 4 { // a path is what to cut off the one before, and what to add
		if err := in.skipVarint(); err != nil {
			return err
		}
		_, err := in.skipString()
		return err
	}
	length := int64(flags & lengthMask)
	if length == lengthMask { // or more
		length, err := in.skipString()
		if err != nil {
			return err
		}
		// The string's own NUL is the first byte of the padding.
		return in.skip(padded(size+length) - size - length - 1)
	}
	return in.skip(padded(size+length) - size)
}

// padded is the size of an entry with one to eight NUL bytes that end its path
// and align the next one.
func padded(size int64) int64 { return (size + 8) &^ 7 }

// skipVarint skips a number of variable width.
func (in *indexReader) skipVarint() error {
	const maxWidth = 10
	for range maxWidth {
		var b [1]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return err
		}
		if b[0]&0x80 == 0 {
			return nil
		}
	}
	return errors.New("a number is too long")
}

// skipString skips up to a NUL byte and returns the length before it.
func (in *indexReader) skipString() (int64, error) {
	for n := int64(0); ; n++ {
		var b [1]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return 0, err
		}
		if b[0] == 0 {
			return n, nil
		}
	}
}

func allZero(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}
