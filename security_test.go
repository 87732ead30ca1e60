package banger

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// undefended is the section of docs/security.md whose bullets promise nothing.
const undefended = "What banger doesn't defend against"

var testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)

// TestSecurityPromisesHaveTests: each promise of docs/security.md names the test
// that holds it: a promise is a bullet, or a row of the first table that says
// "no".
func TestSecurityPromisesHaveTests(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	section, promises := "", 0
	for _, block := range blocks(string(text)) {
		if title, ok := strings.CutPrefix(block, "#"); ok {
			section = strings.Trim(title, "# \n")
		}
		answer := strings.Split(block, "|")
		isRow := len(answer) > 2 && strings.HasPrefix(strings.TrimSpace(answer[2]), "no")
		if section == undefended || !isRow && !strings.HasPrefix(block, "- ") {
			continue
		}
		promises++
		if !testName.MatchString(block) {
			t.Errorf("%s: this names no test:\n%s", section, block)
		}
	}
	if promises < 40 {
		t.Errorf("only %d promises were found", promises)
	}
}

// blocks are the titles, rows, bullets and paragraphs of a page.
func blocks(page string) []string {
	var all []string
	open := false // the last one goes on
	for line := range strings.Lines(page) {
		begins := strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "#")
		switch blank := strings.TrimSpace(line) == ""; {
		case blank:
			open = false
		case open && !begins:
			all[len(all)-1] += line
		default:
			all = append(all, line)
			open = true
		}
	}
	return all
}

// TestDocumentedTestsExist: the tests that the documentation names are there.
func TestDocumentedTestsExist(t *testing.T) {
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	there := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		code, err := os.ReadFile(path)
		for _, match := range function.FindAllSubmatch(code, -1) {
			there[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, decisions...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range testName.FindAllString(string(text), -1) {
			if !there[name] {
				t.Errorf("%s names %s, which isn't there", page, name)
			}
		}
	}
}
