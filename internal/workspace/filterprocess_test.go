package workspace

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// filterProcessVariable makes the test binary a filter, see serveFilter.
const filterProcessVariable = "BANGER_TEST_FILTER"

// filterProcess is the command of a filter that speaks gitattributes(5)'s long
// running filter process protocol, as Git LFS does, and writes in capitals.
func filterProcess(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return filterProcessVariable + "=1 " + self
}

func serveFilter(r io.Reader, w io.Writer) error {
	if _, err := packets(r); err != nil { // git-filter-client, version=2
		return err
	}
	if err := writePackets(w, "git-filter-server\n", "version=2\n"); err != nil {
		return err
	}
	if _, err := packets(r); err != nil { // capabilities
		return err
	}
	if err := writePackets(w, "capability=clean\n", "capability=smudge\n"); err != nil {
		return err
	}
	for {
		head, err := packets(r)
		if err != nil {
			return nil // git has finished
		}
		body, err := packets(r)
		if err != nil {
			return err
		}
		text := strings.ToUpper(strings.Join(body, ""))
		if strings.Contains(strings.Join(head, ""), "command=smudge") {
			text = strings.ToLower(text)
		}
		for _, packet := range [][]string{{"status=success\n"}, {text}, nil} {
			if err := writePackets(w, packet...); err != nil {
				return err
			}
		}
	}
}

// packets reads packet lines up to the flush packet.
func packets(r io.Reader) ([]string, error) {
	var lines []string
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(string(head[:]), 16, 16)
		if err != nil || n == 0 {
			return lines, err
		}
		line := make([]byte, n-4)
		if _, err := io.ReadFull(r, line); err != nil {
			return nil, err
		}
		lines = append(lines, string(line))
	}
}

func writePackets(w io.Writer, lines ...string) error {
	var b bytes.Buffer
	for _, line := range lines {
		fmt.Fprintf(&b, "%04x%s", len(line)+4, line)
	}
	b.WriteString("0000")
	_, err := w.Write(b.Bytes())
	return err
}
