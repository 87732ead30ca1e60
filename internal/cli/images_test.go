package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/cli/termtext"
)

func TestPullRef(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x.tar.zst", "app.tar", "plain"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "x.tar.zst")
	for word, want := range map[string]string{
		"debian-bookworm":            "debian-bookworm",
		"plain":                      "plain", // a name, though there is such a file
		"./plain":                    filepath.Join(dir, "plain"),
		"docker.io/library/alpine:3": "docker.io/library/alpine:3",
		"https://host/a/./x.tar.zst": "https://host/a/./x.tar.zst",
		"x.tar.zst":                  file,
		"app.tar":                    filepath.Join(dir, "app.tar"),
		"none.tgz":                   "",
		"./x.tar.zst":                file,
		file:                         file,
		"../" + filepath.Base(dir) + "/x.tar.zst": file,
		"none.tar.zst": "",
		"./none":       "",
		"..":           "",
		"../":          "",
		"/":            "",
	} {
		got, err := pullRef(word, false)
		if got != want || (want == "") != errors.Is(err, api.ErrInvalid) {
			t.Errorf("pullRef(%q) = %q, %v; want %q", word, got, err, want)
		}
	}
	if got, err := pullRef(".", true); got != dir || err != nil { // an OCI layout
		t.Errorf("a directory: %q, %v", got, err)
	}
}

// A variable's newline makes no line of the table.
func TestShowOfVariableWithNewline(t *testing.T) {
	var out bytes.Buffer
	if err := printTable(termtext.NewWriter(&out), description{{"Env:", "A=1\n2"}, {"User:", "me"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "Env:    A=1\\n2\nUser:   me\n"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestSumLine(t *testing.T) {
	// As sha256sum of coreutils prints them.
	for file, want := range map[string]string{"a b.tar.zst": "ff  a b.tar.zst", `a\b`: `\ff  a\\b`, "a\nb": `\ff  a\nb`} {
		if got := sumLine("ff", file); got != want {
			t.Errorf("sumLine(%q) = %q, want %q", file, got, want)
		}
	}
}

func TestReadLine(t *testing.T) {
	for in, want := range map[string]string{"y\nmore\n": "y\n", "y": "y", "": ""} {
		if got, err := readLine(t.Context(), strings.NewReader(in)); got != want || err != nil {
			t.Errorf("readLine(%q) = %q, %v", in, got, err)
		}
	}
	blocked, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(api.ErrCancelled)
	if _, err := readLine(ctx, blocked); !errors.Is(err, api.ErrCancelled) {
		t.Errorf("a cancelled question: %v", err)
	}
}

// TestRunSession: what vm run makes of the image's configuration.
func TestRunSession(t *testing.T) {
	config := &api.ImageConfig{WorkingDir: "/app", User: "1000:1000", Entrypoint: []string{"tini", "--"}, Cmd: []string{"serve"}}
	plain := api.VM{}
	configured := api.VM{Config: config}
	both := api.VM{Config: config, Workspace: &api.WorkspaceInfo{GuestPath: "/root/repo"}}
	command := []string{"make", "test"}
	tests := []struct {
		name    string
		vm      api.VM
		o       runOptions
		command []string
		dir     string
		user    string
	}{
		{"no configuration", plain, runOptions{command: command}, command, "", ""},
		{"no configuration, a shell", plain, runOptions{}, nil, "", ""},
		{"configuration", configured, runOptions{command: command}, []string{"tini", "--", "make", "test"}, "/app", "1000:1000"},
		{"a shell", configured, runOptions{}, nil, "", ""},
		{"a workspace", both, runOptions{command: command}, []string{"tini", "--", "make", "test"}, "/root/repo", ""},
		{"a shell in a workspace", both, runOptions{}, nil, "/root/repo", ""},
		{"no entrypoint", configured, runOptions{command: command, ownEntrypoint: true}, command, "/app", "1000:1000"},
		{"another entrypoint", configured, runOptions{command: command, ownEntrypoint: true, entrypoint: "time"}, []string{"time", "make", "test"}, "/app", "1000:1000"},
		{"only an entrypoint", configured, runOptions{ownEntrypoint: true, entrypoint: "top"}, []string{"top"}, "/app", "1000:1000"},
		{"no entrypoint, a shell", configured, runOptions{ownEntrypoint: true}, nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.o.session(&env{}, tt.vm)
			if diff := cmp.Diff(tt.command, got.Command); diff != "" || got.Dir != tt.dir || got.User != tt.user {
				t.Errorf("in %q as %q (-want +got):\n%s", got.Dir, got.User, diff)
			}
		})
	}
	if diff := cmp.Diff([]string{"tini", "--"}, config.Entrypoint); diff != "" {
		t.Errorf("the configuration was changed: %s", diff)
	}
}
