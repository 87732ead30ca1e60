package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// expectation is a line of SKIPS.
type expectation struct {
	line       int
	pkg, test  string   // patterns of path.Match
	conditions []string // one of which must hold
	reason     string
}

func readList(file string) ([]expectation, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parseList(f)
	if err != nil {
		return nil, fmt.Errorf("%s, %w", file, err)
	}
	return list, nil
}

// parseList reads lines of a test, the conditions on which it is skipped, and why.
func parseList(r io.Reader) ([]expectation, error) {
	var list []expectation
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 3 {
			return nil, fmt.Errorf("line %d: a test, its conditions and the reason are expected", number)
		}
		e := expectation{line: number, conditions: strings.Split(fields[1], ","), reason: strings.Join(fields[2:], " ")}
		var ok bool
		if e.pkg, e.test, ok = strings.Cut(fields[0], ":"); !ok {
			return nil, fmt.Errorf("line %d: %q isn't PACKAGE:TEST", number, fields[0])
		}
		for _, pattern := range []string{e.pkg, e.test} {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("line %d: %q: %w", number, pattern, err)
			}
		}
		for _, c := range e.conditions {
			if !known(c) {
				return nil, fmt.Errorf("line %d: there is no condition %q", number, c)
			}
		}
		list = append(list, e)
	}
	return list, lines.Err()
}

// matches reports whether an expectation is about a test or one that it is a
// subtest of. Its package is known by how its path ends.
func (e expectation) matches(test id) bool {
	pkg := strings.Split(test.pkg, "/")
	pkg = pkg[max(0, len(pkg)-1-strings.Count(e.pkg, "/")):]
	names := strings.Split(test.test, "/")
	names = names[:min(len(names), 1+strings.Count(e.test, "/"))]
	inPackage, _ := path.Match(e.pkg, strings.Join(pkg, "/"))
	isTest, _ := path.Match(e.test, strings.Join(names, "/"))
	return inPackage && isTest
}

// holds reports whether one of the conditions does.
func (e expectation) holds(condition func(string) bool) bool {
	for _, c := range e.conditions {
		if condition(c) {
			return true
		}
	}
	return false
}
