package guest

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestLimitWriter(t *testing.T) {
	over := errors.New("over")
	var out bytes.Buffer
	l := &LimitWriter{W: &out, Left: 3 * zeroUnit, Over: over}
	block := bytes.Repeat([]byte("x"), zeroUnit)
	for range 3 {
		if n, err := l.Write(block); n != zeroUnit || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	for _, more := range []int{1, zeroUnit} {
		if n, err := l.Write(block[:more]); n != 0 || !errors.Is(err, over) {
			t.Errorf("%d bytes more: %d, %v", more, n, err)
		}
	}
	if out.Len() != 3*zeroUnit {
		t.Errorf("%d bytes came out", out.Len())
	}
	l = &LimitWriter{W: io.Discard, Left: zeroUnit, Over: over, Holes: true}
	sparse := append(make([]byte, 100*zeroUnit), block...)
	if n, err := l.Write(sparse); n != len(sparse) || err != nil {
		t.Errorf("zeros count: %d, %v", n, err)
	}
	if _, err := l.Write(block); !errors.Is(err, over) {
		t.Errorf("got %v", err)
	}
}
