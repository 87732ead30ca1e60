// Package lockedbuffer has a buffer that is read while goroutines still write to
// it. It is for tests only.
package lockedbuffer

import (
	"strings"
	"sync"
)

// Buffer collects what is written. Its zero value is empty, and its methods are
// safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
