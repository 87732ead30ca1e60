package dockerbuild

import (
	"bytes"
	"regexp"
	"strings"

	"banger/internal/api"
)

// Debian 12's Docker has a BuildKit whose own frontend knows the syntax of
// docker/dockerfile:1.2: RUN --mount and COPY --chmod, but nothing later,
// https://docs.docker.com/build/buildkit/dockerfile-release-notes/.
var newFlags = map[string][]string{
	"RUN":  {"--network", "--security", "--device"},
	"COPY": {"--link", "--parents", "--exclude"},
	"ADD":  {"--link", "--parents", "--exclude", "--checksum", "--keep-git-dir", "--unpack"},
}

var (
	// syntaxLine is the directive that makes BuildKit fetch another frontend.
	syntaxLine = regexp.MustCompile(`^#\s*syntax\s*=\s*\S`)
	// escapeLine is the one that chooses the character before a line's end.
	escapeLine = regexp.MustCompile("^#\\s*escape\\s*=\\s*([`\\\\])\\s*$")
	directive  = regexp.MustCompile(`^#\s*[a-zA-Z][a-zA-Z0-9]*\s*=`)
	// heredocWord is a word as BuildKit takes it for the start of one.
	heredocWord = regexp.MustCompile(`(?:^|\s)\d*<<-?(["']?)([a-zA-Z_][a-zA-Z0-9_.]*)(["']?)`)
	gitSource   = regexp.MustCompile(`^(git@|git://|ssh://|https?://\S+\.git(#|$))`)
)

// checkSyntax refuses a Dockerfile that Docker in the VM wouldn't understand,
// before a VM is started for it. It looks for what is known to be too new, and
// leaves all other mistakes to Docker.
func checkSyntax(path string) error {
	data, err := readText(path)
	if err != nil {
		return err
	}
	line, what := tooNew(data)
	if what == "" {
		return nil
	}
	return api.Errorf(api.CodeInvalid, "line %d of the Dockerfile: %s is newer than Docker in the VM, which knows the syntax docker/dockerfile:1.2", line, what).
		WithHint(`make "# syntax=docker/dockerfile:1" its first line: Docker then fetches a frontend that knows it`)
}

// tooNew returns the first thing that is too new and its line, from 1, or "".
func tooNew(data []byte) (line int, what string) {
	lines := strings.Split(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))), "\n")
	escape, asks := directives(lines)
	if asks {
		return 0, ""
	}
	last := make(map[string]int, len(lines)) // where a line is for the last time
	for i, text := range lines {
		lines[i] = strings.TrimSpace(text)
		last[lines[i]] = i
	}
	for i := 0; i < len(lines); i++ {
		first := i
		text := instruction(lines, &i, escape)
		name, rest, _ := strings.Cut(text, " ")
		name = strings.ToUpper(name)
		if name == "ONBUILD" {
			name, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
			name = strings.ToUpper(name)
		}
		if what := tooNewIn(name, rest, func(end string) bool { return last[end] > i }); what != "" {
			return first + 1, what
		}
	}
	return 0, ""
}

// directives reads the comments at the top that mean something.
func directives(lines []string) (escape string, syntax bool) {
	escape = `\`
	for _, text := range lines {
		text = strings.ToLower(strings.TrimSpace(text))
		if !directive.MatchString(text) {
			break
		}
		if m := escapeLine.FindStringSubmatch(text); m != nil {
			escape = m[1]
		}
		syntax = syntax || syntaxLine.MatchString(text)
	}
	return escape, syntax
}

// instruction returns the instruction that begins at line i, which becomes its
// last one. Comments and empty lines within it don't end it.
func instruction(lines []string, i *int, escape string) string {
	var text strings.Builder
	for {
		line := lines[*i]
		if strings.HasPrefix(line, "#") {
			line = ""
		}
		part, more := strings.CutSuffix(line, escape)
		text.WriteString(part)
		inside := more || text.Len() > 0 && line == ""
		if !inside || *i == len(lines)-1 {
			return text.String()
		}
		text.WriteByte(' ')
		*i++
	}
}

// tooNewIn looks at one instruction. ends tells whether a line follows it that
// ends a here-document.
func tooNewIn(name, rest string, ends func(string) bool) string {
	known, ok := newFlags[name]
	if !ok {
		return ""
	}
	words := strings.Fields(rest)
	for len(words) > 0 && strings.HasPrefix(words[0], "--") {
		flag, _, _ := strings.Cut(words[0], "=")
		for _, tooNew := range known {
			if flag == tooNew {
				return name + " " + flag
			}
		}
		words = words[1:]
	}
	if name == "ADD" && len(words) > 0 && gitSource.MatchString(words[0]) {
		return "ADD of a git repository"
	}
	for _, m := range heredocWord.FindAllStringSubmatch(rest, -1) {
		if m[1] == m[3] && ends(m[2]) {
			return "a here-document (<<" + m[2] + ")"
		}
	}
	return ""
}
