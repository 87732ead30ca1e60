package depot

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// childVariable makes the test binary the victim of TestKilled: it replaces
// and removes directories below the one that the variable names, for ever.
const childVariable = "BANGER_TEST_DEPOT"

// TestKilled kills a process that replaces and removes, and looks at what it
// leaves.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" {
		churn(t, dir)
	}
	dir := filepath.Join(t.TempDir(), "depot")
	for round := range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// A line comes with every replacement.
		if _, err := out.Read(make([]byte, round+1)); err != nil {
			t.Errorf("the child: %v", err)
		}
		time.Sleep(rand.N(3 * time.Millisecond)) // any moment will do
		child.Process.Kill()
		child.Wait()

		d := churned(dir)
		if err := d.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got, err := d.Get(e.Name())
			if err != nil || len(got) != 2*len("content") {
				t.Errorf("round %d: %s is damaged: %q, %v", round, e.Name(), got, err)
			}
		}
		if _, err := d.Get("kept"); err != nil {
			t.Errorf("round %d: a directory that is only ever replaced is missing: %v", round, err)
		}
	}
}

// churned is a depot of directories with two files.
func churned(dir string) *Depot[string] {
	d, _ := newDepotAt(dir, "a", "b")
	return d
}

func churn(t *testing.T, dir string) {
	d := churned(dir)
	both := Job{Build: func(_ context.Context, dir string, _ Report) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o600),
			os.WriteFile(filepath.Join(dir, "b"), []byte("content"), 0o600))
	}}
	for {
		_, err := d.Replace(t.Context(), "kept", nil, nil, both)
		if _, e := d.Replace(t.Context(), "gone", nil, nil, both); e != nil {
			err = e
		}
		if _, e := os.Stdout.WriteString("\n"); e != nil {
			err = e
		}
		if e := d.Remove(t.Context(), "gone", nil); e != nil {
			err = e
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
