package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// plainCommand is a command line that needs no shell.
type plainCommand struct {
	dir  string // to change to; "" stays
	env  environment
	argv []string
}

// plainWord is what a word without quotes may be made of: nothing that means
// anything to a shell.
const plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:@%+="

// errNoShell is given where a command line needs a shell that isn't there.
var errNoShell = errors.New("the guest has no shell: only a program with arguments can be run, as in `vm exec VM -- /program ARG`")

// parsePlain reads the command lines that banger's own client sends, and what
// users type for a single program:
//
//	[export NAME=WORD && …] [cd DIR &&] [exec] PROGRAM [WORD …]
//
// A word may be quoted as POSIX shells have it (single quotes, a backslash
// before one character); nothing is expanded. Anything else is errNoShell.
func parsePlain(line string) (plainCommand, error) {
	c := plainCommand{env: make(environment)}
	words, err := splitPlain(line)
	if err != nil {
		return c, err
	}
	for {
		end := indexAnd(words)
		if end < 0 {
			break
		}
		switch part := words[:end]; {
		case len(part) == 2 && part[0].text == "export" && strings.Contains(part[1].text, "="):
			name, value, _ := strings.Cut(part[1].text, "=")
			c.env[name] = value
		case len(part) == 2 && part[0].text == "cd" && c.dir == "":
			c.dir = part[1].text
		default:
			return c, errNoShell
		}
		words = words[end+1:]
	}
	if len(words) > 0 && words[0].text == "exec" {
		words = words[1:]
	}
	for _, w := range words {
		c.argv = append(c.argv, w.text)
	}
	if len(c.argv) == 0 || strings.Contains(c.argv[0], "=") { // an assignment
		return c, errNoShell
	}
	return c, nil
}

// plainToken is a word, or the operator && between commands.
type plainToken struct {
	text string
	and  bool
}

func indexAnd(words []plainToken) int {
	for i, w := range words {
		if w.and {
			return i
		}
	}
	return -1
}

// splitPlain splits a command line into words.
func splitPlain(line string) ([]plainToken, error) {
	var words []plainToken
	for line = strings.TrimLeft(line, " \t\n"); line != ""; line = strings.TrimLeft(line, " \t\n") {
		if rest, ok := strings.CutPrefix(line, "&&"); ok {
			words, line = append(words, plainToken{and: true}), rest
			continue
		}
		text, rest, err := plainHead(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, plainToken{text: text}), rest
	}
	return words, nil
}

// plainHead reads the first word of a line.
func plainHead(line string) (word, rest string, err error) {
	var b strings.Builder
	for line != "" && !strings.ContainsRune(" \t\n", rune(line[0])) {
		switch c := line[0]; {
		case c == '\'':
			text, after, closed := strings.Cut(line[1:], "'")
			if !closed {
				return "", "", errNoShell
			}
			b.WriteString(text)
			line = after
		case c == '\\' && len(line) > 1 && line[1] != '\n':
			b.WriteByte(line[1])
			line = line[2:]
		case strings.IndexByte(plainWord, c) >= 0:
			b.WriteByte(c)
			line = line[1:]
		default:
			return "", "", errNoShell
		}
	}
	return b.String(), line, nil
}

// plainSpec says how to start a command line without a shell.
func plainSpec(line, home string, env environment) (processSpec, error) {
	c, err := parsePlain(line)
	if err != nil {
		return processSpec{}, err
	}
	maps.Copy(env, c.env)
	spec := processSpec{argv: c.argv, env: env.list()}
	if spec.path, err = findProgram(c.argv[0], env["PATH"]); err != nil || c.dir == "" {
		return spec, err
	}
	spec.dir = c.dir
	if !filepath.IsAbs(spec.dir) {
		spec.dir = filepath.Join(home, spec.dir)
	}
	if info, err := os.Stat(spec.dir); err != nil {
		return spec, fmt.Errorf("enter the working directory: %w", err)
	} else if !info.IsDir() {
		return spec, fmt.Errorf("enter the working directory: %s is not a directory", spec.dir)
	}
	return spec, nil
}

// findProgram looks a program up as a shell does: by the directories of PATH
// unless its name has a slash in it.
func findProgram(name, searchPath string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searchPath) {
		if path := filepath.Join("/", dir, name); isProgram(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: no such program on the PATH %s (%w)", name, searchPath, fs.ErrNotExist)
}
