package sshd

import (
	"maps"
	"os"
	"slices"
	"strings"
)

const (
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	userPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
)

// loginFiles are the files from which PAM's pam_env sets a session's
// environment in common distributions, the later ones win.
func loginFiles() []string { return []string{"/etc/default/locale", "/etc/environment"} }

// environment is a set of variables by name.
type environment map[string]string

// loginEnvironment is what a command of a user gets before the client has
// its say.
func loginEnvironment(user *account, files []string, configured map[string]string) environment {
	env := environment{
		"HOME":    user.home,
		"SHELL":   user.shell,
		"USER":    user.name,
		"LOGNAME": user.name,
		"PATH":    userPath,
	}
	if user.uid == 0 {
		env["PATH"] = rootPath
	}
	for _, path := range files {
		// These files are optional.
		text, _ := os.ReadFile(path)
		maps.Copy(env, parseEnvironment(string(text)))
	}
	maps.Copy(env, configured)
	return env
}

// parseEnvironment reads NAME=VALUE lines as pam_env(8) does: "export" before
// the name, quotes around the value and comments are allowed, nothing is
// expanded, and other lines are ignored.
func parseEnvironment(text string) environment {
	env := make(environment)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, ok := strings.Cut(line, "=")
		if !ok || !validVariable(name, value) || strings.ContainsAny(name, " \t") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		env[name] = value
	}
	return env
}

// validVariable reports whether a process can be given such a variable.
func validVariable(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00") && !strings.Contains(value, "\x00")
}

// list renders the variables for execve(2).
func (e environment) list() []string {
	list := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		list = append(list, name+"="+e[name])
	}
	return list
}
