package flatten

import "io"

const (
	readaheadBlocks = 4
	readaheadSize   = 256 << 10
)

// readahead reads from a reader in the background, so that decompressing and
// what is done with the result use two processors.
type readahead struct {
	full, empty chan block
	current     block
	rest        []byte // of current
	done        chan struct{}
}

type block struct {
	data []byte
	err  error // what came after data
}

// newReadahead starts reading r. Close ends that.
func newReadahead(r io.Reader) *readahead {
	a := &readahead{
		full:  make(chan block, readaheadBlocks),
		empty: make(chan block, readaheadBlocks),
		done:  make(chan struct{}),
	}
	for range readaheadBlocks {
		a.empty <- block{data: make([]byte, readaheadSize)}
	}
	go a.run(r)
	return a
}

func (a *readahead) run(r io.Reader) {
	defer close(a.done)
	for b := range a.empty {
		n, err := fill(r, b.data[:readaheadSize])
		a.full <- block{b.data[:n], err} // has room for every block there is
		if err != nil {
			return
		}
	}
}

// fill reads until p is full. Unlike io.ReadFull it keeps r's own error, so
// that the end of r and a truncated r stay different.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// Read implements io.Reader.
func (a *readahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		if a.current.data != nil {
			a.empty <- a.current
		}
		a.current = <-a.full
		a.rest = a.current.data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close stops the reading and waits until the reader is no longer used. Read
// must not be called after it.
func (a *readahead) Close() error {
	close(a.empty)
	<-a.done
	return nil
}
