package sshd

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/terminfo"
)

// description passes for a terminal's.
var description = append([]byte{0x1a, 0x01}, make([]byte, 100)...)

// describe gives a directory the descriptions of terminals.
func describe(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, terminfo.Place(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, description, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTerminalType(t *testing.T) {
	system := t.TempDir()
	describe(t, system, terminfo.Fallback, "xterm-known")
	env := environment{"TERMINFO": system}
	for name, test := range map[string]struct {
		term, home string
		sent       []byte
		want       string
		note       bool
	}{
		"known":          {"xterm-known", t.TempDir(), nil, "xterm-known", false},
		"known and sent": {"xterm-known", t.TempDir(), description, "xterm-known", false},
		"sent":           {"xterm-sent", t.TempDir(), description, "xterm-sent", false},
		"unknown":        {"xterm-unknown", t.TempDir(), nil, terminfo.Fallback, true},
		"no home":        {"xterm-sent", "/no/where", description, terminfo.Fallback, true},
		"home is /":      {"xterm-sent", "/", description, terminfo.Fallback, true},
		"odd name":       {"../xterm", t.TempDir(), description, terminfo.Fallback, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &session{
				conn: &connection{user: &account{uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), home: test.home}, log: slog.New(slog.DiscardHandler)},
				term: test.term, terminfo: test.sent,
			}
			got, note := s.terminalType(env)
			if got != test.want || (note != "") != test.note || strings.Contains(note, "\n") {
				t.Errorf("TERM is %q, %q", got, note)
			}
			own, err := os.ReadFile(filepath.Join(terminfo.Own(test.home), terminfo.Place("xterm-sent")))
			if sent := name == "sent"; sent != bytes.Equal(own, description) || sent != (err == nil) {
				t.Errorf("the user has a description of %d bytes, %v", len(own), err)
			}
		})
	}
}

// A home full of traps leads a description to nowhere that its user can't write.
func TestTerminfoIsWrittenAsItsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can be somebody else")
	}
	const nobody = 65534
	home, secret := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Dir(home), home} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	user := &account{name: "nobody", uid: nobody, gid: nobody, home: home}
	install := func() error {
		return asUser(user, func() error { return installTerminfo(home, "xterm-sent", description) })
	}
	if err := os.Symlink(secret, filepath.Join(home, ".terminfo")); err != nil {
		t.Fatal(err)
	}
	if err := install(); err == nil {
		t.Error("a symlink to a directory of root's was followed")
	}
	if entries, err := os.ReadDir(secret); err != nil || len(entries) > 0 {
		t.Errorf("root's directory has %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(home, ".terminfo")); err != nil {
		t.Fatal(err)
	}
	if err := install(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(home, ".terminfo/x/xterm-sent"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody || info.Mode() != fs.FileMode(0o644) {
		t.Errorf("the description: %v, %v", info, err)
	}
	// The server itself is who it was.
	if err := os.WriteFile(filepath.Join(secret, "f"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

// TestUnknownTerminal: the client is told in a line, and a description that it
// sends is no command's variable.
func TestUnknownTerminal(t *testing.T) {
	system := t.TempDir()
	describe(t, system, terminfo.Fallback)
	f := serve(t, func(c *Config) { c.Env = map[string]string{"TERMINFO": system, "HOME": "/nonexistent"} })
	s := f.session()
	if err := s.RequestPty("xterm-nobody-has", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Setenv(terminfo.Variable, "no description"); err == nil {
		t.Error("what is no description was taken")
	}
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, err := s.Output("echo $TERM; env | grep -c " + terminfo.Variable)
	if string(out) != terminfo.Fallback+"\r\n0\r\n" || err == nil {
		t.Errorf("got %q, %v", out, err)
	}
	if got := stderr.String(); !strings.Contains(got, `"xterm-nobody-has"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("said %q", got)
	}
}
