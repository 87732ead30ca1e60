package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if err := WriteManPages(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "banger-vm-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "--rm") && !strings.Contains(string(page), `\-\-rm`) {
		t.Errorf("the page of vm run doesn't mention --rm:\n%.500s", page)
	}
}
