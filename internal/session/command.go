package session

import (
	"maps"
	"slices"
	"strings"

	"banger/internal/api"
)

// maxCommandLine is the room for one argument of execve(2) on Linux
// (MAX_ARG_STRLEN, 32 pages) less its terminating zero: the guest runs the
// line as `sh -c LINE`.
const maxCommandLine = 32*4096 - 1

// commandLine renders argv for a POSIX shell, so that it runs exactly that, in
// dir and with env. It returns "" for a login shell that needs neither.
func commandLine(argv []string, dir string, env map[string]string) (string, error) {
	if len(argv) == 0 && dir == "" && len(env) == 0 {
		return "", nil
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !isShellName(name) {
			return "", api.Errorf(api.CodeInvalid, "the guest can't take an environment variable named %q", name)
		}
		b.WriteString("export " + name + "=" + quote(env[name]) + " && ")
	}
	if dir != "" {
		if !strings.HasPrefix(dir, "/") {
			dir = "./" + dir // neither an option, nor "-", nor looked up in CDPATH
		}
		b.WriteString("cd " + quote(dir) + " && ")
	}
	b.WriteString("exec")
	if len(argv) == 0 {
		b.WriteString(` "${SHELL:-/bin/sh}" -l`)
	}
	for _, arg := range argv {
		b.WriteByte(' ')
		b.WriteString(quote(arg))
	}
	line := b.String()
	if strings.IndexByte(line, 0) >= 0 {
		return "", api.Errorf(api.CodeInvalid, "the command has a zero byte in it, which no program can be given")
	}
	if len(line) > maxCommandLine {
		return "", api.Errorf(api.CodeInvalid, "the command is %d bytes long; the guest takes %d", len(line), maxCommandLine).
			WithHint("pass the data on standard input or in a file")
	}
	return line, nil
}

// quote makes s one word of a POSIX shell that stands for itself, whatever
// bytes it has.
func quote(s string) string {
	if s != "" && strings.Trim(s, plainChars) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plainChars mean nothing to a shell.
const plainChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./,:@%+"

func isShellName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
