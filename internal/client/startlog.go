package client

import (
	"io"
	"os"
	"strings"

	"banger/internal/api"
)

const (
	// tailLines of a failed start's log are shown when it has no better message.
	tailLines = 8
	// maxTail bounds how much of a failed start's log is looked at.
	maxTail = 64 << 10

	daemonPrefix = "bangerd: "
	hintPrefix   = "hint: "
)

// startError explains a bangerd that ended before it answered, from what it
// has written to its log since the offset from.
func (c *Client) startError(cause error, from int64) error {
	text := readFrom(c.layout.DaemonLog(), from)
	msg, hint := summarize(text)
	if msg == "" {
		msg = "it wrote nothing"
		if cause != nil {
			msg += " (" + cause.Error() + ")"
		}
	}
	e := api.Errorf(api.CodeDaemon, "bangerd did not start: %s", msg)
	if hint != "" {
		return e.WithHint("%s", hint)
	}
	return e.WithHint("its log is %s", c.layout.DaemonLog())
}

// summarize picks the message and the hint out of what a failed bangerd has
// written: its last line "bangerd: message", with "hint: …" in a line after
// it, else the first line of a crash, else the last lines as they are.
func summarize(text string) (msg, hint string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		message, ok := strings.CutPrefix(lines[i], daemonPrefix)
		if !ok {
			continue
		}
		for _, after := range lines[i+1:] {
			if h, ok := strings.CutPrefix(strings.TrimSpace(after), hintPrefix); ok {
				hint = h
			}
		}
		return message, hint
	}
	for _, line := range lines {
		// What the Go runtime writes above its stack traces.
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line, ""
		}
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n"), ""
}

// readFrom returns the file's end, but nothing from before the offset; "" if
// it can't be read, as the caller has an error to report already.
func readFrom(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from = max(from, info.Size()-maxTail)
	data, err := io.ReadAll(io.NewSectionReader(f, from, maxTail))
	if err != nil {
		return ""
	}
	return string(data)
}
