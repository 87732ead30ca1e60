//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// describeTerminal makes a description of a terminal that no guest has, and
// returns the directory for TERMINFO.
func (h *host) describeTerminal(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(h.scratch, "terminfo")
	out, err := exec.Command("sh", "-c", "mkdir -p "+dir+" && infocmp xterm-256color | sed 's/^xterm-256color|/"+name+"|/' | tic -x -o "+dir+" - && chmod -R a+rX "+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("describe a terminal: %v: %s", err, out)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestTerminalTravels: programs in a guest know the host's terminal, its colours
// and the language of its user.
func TestTerminalTravels(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "term")
		dir := h.describeTerminal(t, "xterm-ghostty")
		env := []string{"TERM=xterm-ghostty", "TERMINFO=" + dir, "COLORTERM=truecolor", "LC_ALL=", "LANG=C.UTF-8", "LC_TIME=ja_JP.UTF-8"}
		const script = `echo "[$TERM $COLORTERM $LANG $LC_TIME]"; tput colors; locale 2>&1 | grep -i cannot`
		for way, args := range map[string][]string{
			"exec": {"vm", "exec", "-t", "term", "--", "sh", "-c", script},
			"ssh":  {"vm", "ssh", "-t", "term", script},
			"run":  {"vm", "run", "--rm", "-t", "--name", "term-run", "--", "sh", "-c", script},
		} {
			term, end := h.openTerminalWith(t, env, args...)
			end()
			if got := term.screen(); !strings.Contains(got, "[xterm-ghostty truecolor C.UTF-8 ]\r\n256\r\n") || strings.Contains(got, "cannot") {
				t.Errorf("%s: %q", way, got)
			}
		}
		h.guestSays(t, "term", "test -s ~/.terminfo/x/xterm-ghostty; useradd -m dev")
		// Of another user, who has a home too.
		term, end := h.openTerminalWith(t, env, "vm", "exec", "-t", "-u", "dev", "term", "--", "sh", "-c", script+"; stat -c '%U %a' ~/.terminfo/x/*")
		end()
		if got := term.screen(); !strings.Contains(got, "[xterm-ghostty truecolor") || !strings.Contains(got, "dev 644") {
			t.Errorf("another user: %q", got)
		}
		term, end = h.openTerminalWith(t, []string{"TERM=nobody-has-it"}, "vm", "exec", "-t", "term", "--", "sh", "-c", script)
		end()
		if got := term.screen(); !strings.Contains(got, "[xterm-256color") || strings.Count(got, `"nobody-has-it"`) != 1 {
			t.Errorf("an unknown terminal: %q", got)
		}
		for _, known := range []string{"tmux-256color", "xterm-256color", "linux"} {
			term, end = h.openTerminalWith(t, []string{"TERM=" + known}, "vm", "exec", "-t", "term", "--", "sh", "-c", script)
			end()
			if got := term.screen(); !strings.HasPrefix(got, "["+known) {
				t.Errorf("%s: %q", known, got)
			}
		}
	})
}
