package ext4

import "io"

const (
	pipeBlocks    = 4
	pipeBlockSize = 256 << 10
)

// pipe connects two goroutines like io.Pipe, but with room in between: the
// writer fills blocks while the reader is busy with earlier ones, so that both
// run at once.
type pipe struct {
	full, empty chan []byte
	stopped     chan struct{} // closed by the reader
	err         error         // of the writer; set before full is closed
}

func newPipe() (*pipeReader, *pipeWriter) {
	p := &pipe{
		full:    make(chan []byte, pipeBlocks),
		empty:   make(chan []byte, pipeBlocks),
		stopped: make(chan struct{}),
	}
	for range pipeBlocks {
		p.empty <- make([]byte, 0, pipeBlockSize)
	}
	return &pipeReader{pipe: p}, &pipeWriter{pipe: p}
}

// pipeWriter is the writing end.
type pipeWriter struct {
	*pipe
	block []byte // nil if the writer has none
}

// Write implements io.Writer. It fails with errStopped once the reader is
// closed.
func (w *pipeWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if w.block == nil {
			select {
			case w.block = <-w.empty:
			case <-w.stopped:
				return done, errStopped
			}
		}
		n := min(len(p)-done, pipeBlockSize-len(w.block))
		w.block = append(w.block, p[done:done+n]...)
		done += n
		if len(w.block) == pipeBlockSize {
			w.flush()
		}
	}
	return done, nil
}

// flush hands the block over; full has room for every block there is.
func (w *pipeWriter) flush() {
	w.full <- w.block
	w.block = nil
}

// CloseWithError ends the stream: the reader gets err, or io.EOF if it is nil,
// after all that was written. It must be called exactly once.
func (w *pipeWriter) CloseWithError(err error) {
	if w.block != nil {
		w.flush()
	}
	w.err = err
	close(w.full)
}

// pipeReader is the reading end.
type pipeReader struct {
	*pipe
	block, rest []byte
}

// Read implements io.Reader.
func (r *pipeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.block != nil {
			r.empty <- r.block[:0]
			r.block = nil
		}
		block, ok := <-r.full
		if !ok {
			if r.err != nil {
				return 0, r.err
			}
			return 0, io.EOF
		}
		r.block, r.rest = block, block
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close makes the writer fail. It must be called exactly once, after which
// Read must not be.
func (r *pipeReader) Close() error {
	close(r.stopped)
	return nil
}
