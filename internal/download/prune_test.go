package download

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/transfer"
)

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cut.partial", "cut.partial.origin", "done", "busy.partial", "busy.partial.origin"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<16), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := transfer.Lock(filepath.Join(dir, "busy.partial"))
	if err != nil || busy == nil {
		t.Fatalf("lock: %v, %v", busy, err)
	}
	defer busy.Close()
	left := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	would, err := Prune(t.Context(), dir, true)
	if err != nil || would < 2<<16 || left() != 5 {
		t.Errorf("a dry run: %d bytes, %v; %d files are left", would, err, left())
	}
	freed, err := Prune(t.Context(), dir, false)
	if err != nil || freed != would || left() != 2 {
		t.Errorf("freed %d bytes, %v; %d files are left", freed, err, left())
	}
	if freed, err := Prune(t.Context(), filepath.Join(dir, "absent"), false); err != nil || freed != 0 {
		t.Errorf("without a directory: %d, %v", freed, err)
	}
}
