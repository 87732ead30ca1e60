package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// goPackage is a package with fuzz targets, as go list describes it.
type goPackage struct {
	ImportPath   string
	Dir          string
	Module       struct{ Path string }
	TestGoFiles  []string
	XTestGoFiles []string

	targets []string
}

// name is the package's path in the module.
func (p *goPackage) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
}

var target = regexp.MustCompile(`(?m)^func (Fuzz[A-Z0-9]\w*)\(\w+ \*testing\.F\)`)

// findTargets returns the packages that have targets which pattern finds.
// Reading the files for them is much quicker than go test -list, which
// compiles every package.
func findTargets(ctx context.Context, patterns []string, wanted *regexp.Regexp) ([]*goPackage, error) {
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles"}, patterns...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var found []*goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &goPackage{}
		err := dec.Decode(p)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		for _, file := range append(p.TestGoFiles, p.XTestGoFiles...) {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				return nil, err
			}
			for _, match := range target.FindAllSubmatch(text, -1) {
				if name := string(match[1]); wanted.MatchString(p.name() + "/" + name) {
					p.targets = append(p.targets, name)
				}
			}
		}
		if len(p.targets) > 0 {
			found = append(found, p)
		}
	}
}
