package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// module makes a module with two fuzz targets, one of which finds a fault.
func module(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n",
		"p/p_test.go": `package p

import "testing"

FUNC FuzzGood(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) {}) }

FUNC FuzzBad(f *testing.F) {
	f.Add([]byte("bad"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2 {
			t.Fatal("found")
		}
	})
}
`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		// FUNC, or they would be found in this file.
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "FUNC", "func")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestRunner(t *testing.T) {
	module(t)
	var out bytes.Buffer
	r := &runner{each: time.Second, work: t.TempDir(), cache: t.TempDir(), out: &out}
	packages, err := findTargets(t.Context(), nil, regexp.MustCompile("^p/Fuzz"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("got %v, %v", packages, err)
	}
	if err := r.all(t.Context(), packages[0]); err != nil {
		t.Fatal(err)
	}
	if r.ran != 2 || strings.Join(r.failed, " ") != "FuzzBad" {
		t.Errorf("%d ran, %q failed", r.ran, r.failed)
	}
	for _, want := range []string{"fuzz ok   p ", "fuzz FAIL p ", "FuzzGood", "found"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}
