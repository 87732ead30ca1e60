package banger

import (
	"os"
	"regexp"
	"testing"
)

// The README names the version of Go that is fetched: the one of go.mod.
func TestReadmeNamesGo(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	got := regexp.MustCompile(`Go (\d+\.\d+\.\d+)`).FindSubmatch(readme)
	if want == nil || got == nil || string(got[1]) != string(want[1]) {
		t.Errorf("README names Go %s, go.mod %s", got, want)
	}
}
