//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"banger/internal/api"
)

// attack is what a guest writes to control the terminal of whoever reads it:
// clear the screen, fill the clipboard, set the title, in C0 and in C1.
const attack = `\033[2J\033]52;c;cm0=\007\033]0;owned\007\302\2332J`

// TestHostileConsole: nothing that a guest writes to its console, and that
// banger shows, reaches the terminal as it is.
func TestHostileConsole(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "hostile")
		// The end of the VM is told in the words of a panic, true or not.
		h.run(t, "vm", "exec", "hostile", "--", "sh", "-c",
			`printf '\nmark `+attack+`\nKernel panic - not syncing: `+attack+`\n' >/dev/console; sync; echo b >/proc/sysrq-trigger`)
		h.eventually(t, func() bool { return h.vm(t, "hostile").State == api.StateStopped })

		for _, args := range []string{"vm show hostile", "vm logs hostile", "vm exec hostile true", "vm list"} {
			term, wait := h.openTerminal(t, strings.Fields(args)...)
			wait()
			screen := term.screen()
			if left := controls.FindString(colours.ReplaceAllString(screen, "")); left != "" {
				t.Errorf("%s shows %q:\n%q", args, left, screen)
			}
			if args != "vm list" && args != "vm exec hostile true" && !strings.Contains(screen, `\x1b[2J\x1b]52;c;cm0=\x07`) {
				t.Errorf("%s doesn't show what the guest wrote:\n%q", args, screen)
			}
		}
		term, wait := h.openTerminal(t, "vm", "logs", "--raw", "hostile")
		wait()
		if !strings.Contains(term.screen(), "\x1b]52;c;cm0=\x07") {
			t.Error("vm logs --raw changes the text")
		}
	})
}

var (
	colours  = regexp.MustCompile(`\x1b\[[0-9;:]*m`)
	controls = regexp.MustCompile(`[^\P{Cc}\r\n\t]`)
)
