package vmm

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"banger/internal/guest"
)

// ConsoleTail is how much of a console FindPanic needs, in bytes: a panic's
// message is followed by a few screens of registers and stack.
const ConsoleTail = 64 << 10

// consoleHeader begins the line that separates the boots in a console log.
const consoleHeader = "[banger] "

// BeginConsole writes the first line of a boot to the console's log, which
// keeps what is there. It tells when what was started, say "QEMU (kvm)".
func BeginConsole(path, what string) error {
	console, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	_, err = fmt.Fprintf(console, "%s%s %s starts\n", consoleHeader, time.Now().UTC().Format(time.RFC3339), what)
	if closeErr := console.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write console log: %w", err)
	}
	return nil
}

// panicMessage matches what a Linux kernel says last.
var panicMessage = regexp.MustCompile(`Kernel panic - not syncing: ([^\r\n]*)`)

// FindPanic returns the message of a panic in the last boot on a console, or
// "".
func FindPanic(console string) string {
	match := panicMessage.FindStringSubmatch(LastBoot(console))
	if match == nil {
		return ""
	}
	return guest.Excerpt(match[1])
}

// LastBoot returns what a console has of the last boot, without the line that
// BeginConsole wrote.
func LastBoot(console string) string {
	if i := strings.LastIndex(console, consoleHeader); i >= 0 {
		_, console, _ = strings.Cut(console[i:], "\n")
	}
	return console
}
