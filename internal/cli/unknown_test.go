package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"banger/internal/api"
)

// TestUnknownCommands: an unknown command is an error, whatever stands around
// it, and known ones are not.
func TestUnknownCommands(t *testing.T) {
	for args, unknown := range map[string]string{
		"vm workspace":               "workspace",
		"vm workspace --help":        "workspace",
		"vm --help workspace":        "workspace",
		"vm session start --help":    "session",
		"config --help":              "config",
		"config":                     "config",
		"-h config":                  "config",
		"help config":                "config",
		"help vm workspace":          "workspace",
		"completion tcsh":            "tcsh",
		"":                           "",
		"--help":                     "",
		"vm":                         "",
		"vm --help":                  "",
		"vm run --help":              "",
		"vm run ./repo -- cmd":       "",
		"vm ssh -A web --help":       "",
		"vm rm x":                    "",
		"help":                       "",
		"help vm":                    "",
		"help vm run":                "",
		"help exit-codes":            "",
		"completion bash":            "",
		"__complete vm nothing":      "",
		"__completeNoDesc vm show x": "",
		"image list --json":          "",
		"--version":                  "",
	} {
		root := newRoot(newEnv(nil, &bytes.Buffer{}, &bytes.Buffer{}, nil))
		err := checkCommand(root, strings.Fields(args))
		if (err == nil) != (unknown == "") {
			t.Errorf("banger %s: %v", args, err)
		}
		if err != nil && (!errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), `"`+unknown+`"`)) {
			t.Errorf("banger %s: %v, want %q in it", args, err, unknown)
		}
	}
}

// TestNearest: what is proposed for a word is a slip away, never something else.
func TestNearest(t *testing.T) {
	root := newRoot(newEnv(nil, &bytes.Buffer{}, &bytes.Buffer{}, nil))
	for words, want := range map[string]string{
		"vm rnu": "run", "vm rum": "run", "vm lsit": "list", "vm lst": "list", "vm exce": "exec", "vm Show": "show", "vm shot": "show",
		"vm delte": "delete", "vm dleete": "delete", "vm strat": "start", "vm del": "delete", "vm stopp": "stop",
		"vm sshconfig": "ssh-config", "image regsiter": "register", "image pul": "pull", "imgae": "image", "docter": "doctor",
		// Of quite another kind.
		"vm prune": "", "vm top": "", "vm ps": "", "vm get": "", "vm set": "", "vm pull": "", "vm kill": "",
		"vm shutdown": "", "vm status": "", "vm workspace": "", "vm session": "", "config": "", "run": "", "image stop": "", "vm s": "",
	} {
		parent, word := root, words
		if group, rest, found := strings.Cut(words, " "); found {
			cmd, _, err := root.Find([]string{group})
			if err != nil {
				t.Fatal(err)
			}
			parent, word = cmd, rest
		}
		if got := nearest(parent, word); got != want {
			t.Errorf("banger %s: %q is proposed, want %q", words, got, want)
		}
	}
}
