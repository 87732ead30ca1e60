package daemon

import (
	"os"
	"testing"
)

func TestProcess(t *testing.T) {
	const more = 50
	block := make(chan struct{})
	defer close(block)
	for range more {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		go func() { <-block }()
	}
	p, err := process()
	if err != nil || p.OpenFiles < more || p.OpenFiles > 10*more || p.Goroutines < more || p.Goroutines > 10*more || p.MemoryBytes < 1<<20 {
		t.Errorf("got %+v, %v", p, err)
	}
}
