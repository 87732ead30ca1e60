package cli

import (
	"maps"
	"os"
	"strings"

	"banger/internal/api"
	"banger/internal/terminfo"
)

// travelling tells of variables that go into a guest with a terminal, as
// distributions' configurations of ssh have it: what programs there need to know
// of the terminal and of its user's language.
func travelling(name string) bool {
	switch name {
	case "LANG", "COLORTERM", "NO_COLOR":
		return true
	}
	return strings.HasPrefix(name, "LC_")
}

// terminalEnv is the environment of a session with a terminal: explicit, and of
// what this process has what travels and the VM doesn't set itself.
func terminalEnv(vm api.VM, explicit map[string]string) map[string]string {
	env := make(map[string]string)
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); travelling(name) {
			env[name] = value
		}
	}
	if vm.Config != nil {
		for _, variable := range vm.Config.Env {
			name, _, _ := strings.Cut(variable, "=")
			delete(env, name)
		}
	}
	for name := range vm.Env {
		delete(env, name)
	}
	if description := hostTerminfo(); description != "" {
		env[terminfo.Variable] = description
	}
	maps.Copy(env, explicit)
	return env
}

// hostTerminfo is what the host knows of its own terminal, to go along with a
// session as terminfo.Variable; "" if it knows nothing.
func hostTerminfo() string {
	dirs := terminfo.Dirs(os.Getenv("TERMINFO"), os.Getenv("HOME"), os.Getenv("TERMINFO_DIRS"))
	data := terminfo.Find(os.Getenv("TERM"), dirs)
	if data == nil {
		return ""
	}
	return terminfo.Encode(data)
}
