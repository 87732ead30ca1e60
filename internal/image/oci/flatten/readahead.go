package flatten

import (
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"banger/internal/guard"
)

const (
	readaheadBlocks = 8
	readaheadSize   = 256 << 10
)

// readahead reads from a reader in the background, and hashes what it read in
// the background as well, so that decompressing, hashing and what is done with
// the result use several processors.
type readahead struct {
	full, empty chan *block
	current     *block
	rest        []byte // of current
	hash        hash.Hash
	hashed      chan struct{} // closed when hash has everything
	stop        chan struct{}
	running     sync.WaitGroup
}

type block struct {
	data  []byte
	err   error        // what came after data
	users atomic.Int32 // that still need it
}

// newReadahead starts reading r. Close ends that.
func newReadahead(r io.Reader, h hash.Hash) *readahead {
	a := &readahead{
		full:   make(chan *block, readaheadBlocks),
		empty:  make(chan *block, readaheadBlocks),
		hash:   h,
		hashed: make(chan struct{}),
		stop:   make(chan struct{}),
	}
	for range readaheadBlocks {
		a.empty <- &block{data: make([]byte, readaheadSize)}
	}
	// Each channel has room for every block there is: only waiting for an
	// empty one blocks.
	toHash := make(chan *block, readaheadBlocks)
	// The reader takes apart what a registry sent: a panic of it ends the data
	// with an error. Nothing else here depends on the data.
	r = guard.Reader("decompress a layer", r)
	a.running.Go(guard.Func("read ahead", func() { a.read(r, toHash) }))
	a.running.Go(guard.Func("hash ahead", func() {
		defer close(a.hashed)
		for b := range toHash {
			a.hash.Write(b.data)
			a.release(b)
		}
	}))
	return a
}

func (a *readahead) read(r io.Reader, toHash chan<- *block) {
	defer close(toHash)
	for {
		var b *block
		select {
		case b = <-a.empty:
		case <-a.stop:
			return
		}
		n, err := fill(r, b.data[:readaheadSize])
		b.data, b.err = b.data[:n], err
		b.users.Store(2)
		toHash <- b
		a.full <- b
		if err != nil {
			return
		}
	}
}

// release makes a block empty once nobody needs it.
func (a *readahead) release(b *block) {
	if b.users.Add(-1) == 0 {
		a.empty <- b
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
		if a.current != nil {
			if a.current.err != nil {
				return 0, a.current.err
			}
			a.release(a.current)
		}
		a.current = <-a.full
		a.rest = a.current.data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// sum returns the hash of everything. Read must have come to the end.
func (a *readahead) sum() []byte {
	<-a.hashed
	return a.hash.Sum(nil)
}

// Close stops the reading and waits until the reader is no longer used. Read
// must not be called after it.
func (a *readahead) Close() error {
	close(a.stop)
	a.running.Wait()
	return nil
}
