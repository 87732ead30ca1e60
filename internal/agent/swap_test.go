package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMakeSwap has util-linux look at it.
func TestMakeSwap(t *testing.T) {
	file := filepath.Join(t.TempDir(), "swap")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := makeSwap(file); err != nil {
		t.Fatal(err)
	}
	blkid, err := exec.LookPath("blkid")
	if err != nil {
		blkid = "/usr/sbin/blkid" // not every user's PATH has the directory
	}
	out, err := exec.Command(blkid, "-p", "-o", "export", file).Output()
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	if got := string(out); !strings.Contains(got, "TYPE=swap\n") || !strings.Contains(got, "UUID=") {
		t.Errorf("blkid says\n%s", got)
	}
}
