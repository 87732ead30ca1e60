package flatten

import (
	"archive/tar"
	"fmt"
	"io"
)

// Placer is a Writer to which the contents of files can go while layers are
// still being read, before it is known whether the tree has these files. That
// saves writing them twice. Its methods aren't called at the same time.
type Placer interface {
	Writer
	// Reserve makes room for so many bytes and returns an offset for WriteAt,
	// which gets them once and in order, and for WriteFile. What isn't written
	// is zeros.
	Reserve(size int64) (int64, error)
	io.WriterAt
	// WriteFile writes a regular file whose contents are at offset. Room that
	// no file takes is to be freed in the end.
	WriteFile(hdr *tar.Header, offset int64) error
}

// keeper takes the contents of files. buf is scratch space of chunkSize bytes.
// Errors of r come back as they are, others as hostError.
type keeper interface {
	store(r io.Reader, size int64, buf []byte) (contents, error)
}

// placed keeps contents where a Placer wants them in the end. It serves one
// layer only: what several at once do would be in an order of chance.
type placed struct {
	to   Placer
	left int64 // bytes that files may still have
}

func (p *placed) store(r io.Reader, size int64, buf []byte) (contents, error) {
	if p.left -= size; p.left < 0 {
		return contents{}, errTooBig
	}
	offset, err := p.to.Reserve(size)
	if err != nil {
		return contents{}, &hostError{err}
	}
	for at := int64(0); at < size; {
		n, err := readChunk(r, buf, size-at)
		if err != nil {
			return contents{}, err
		}
		if !isZero(buf[:n]) {
			if _, err := p.to.WriteAt(buf[:n], offset+at); err != nil {
				return contents{}, &hostError{fmt.Errorf("write contents: %w", err)}
			}
		}
		at += int64(n)
	}
	return contents{offset: offset, size: size, placed: true}, nil
}

// readChunk fills buf, or as much of it as a file has left.
func readChunk(r io.Reader, buf []byte, left int64) (int, error) {
	n, err := io.ReadFull(r, buf[:min(int64(len(buf)), left)])
	if err == io.EOF { // that of archive/tar, never wrapped
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// keepers returns where each layer's contents go: those of the biggest straight
// to w if it takes them, all others into kept.
func keepers(layers []Layer, w Writer, kept *spool) []keeper {
	all := make([]keeper, len(layers))
	biggest := 0
	for i, l := range layers {
		all[i] = kept
		if l.Size > layers[biggest].Size {
			biggest = i
		}
	}
	if p, ok := w.(Placer); ok && len(layers) > 0 {
		all[biggest] = &placed{p, kept.max}
	}
	return all
}

// errTooBig is the error of files that have more bytes than Options.MaxBytes.
var errTooBig = badLayer("the files in the image have more bytes than are allowed")
