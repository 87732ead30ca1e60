package openssh

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExec(t *testing.T) {
	var out bytes.Buffer
	// The process left behind holds on to the output.
	err := Exec(t.Context(), nil, []string{"/bin/sh", "-c", "echo $GREETING; sleep 600 & echo $!"}, []string{"PATH=/bin:/usr/bin", "GREETING=hello"}, &out)
	greeting, left, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	if err != nil || greeting != "hello" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if pid, err := strconv.Atoi(left); err != nil {
		t.Error(err)
	} else if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what it left behind is gone: %v", err)
	}
	if err := Exec(t.Context(), nil, []string{"/bin/sh", "-c", "exit 3"}, nil, io.Discard); err == nil || err.Error() != "exit status 3" {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	g := &Guest{Env: map[string]string{"PATH": "/opt/bin", "http_proxy": "p", "HOME": "/nowhere"}}
	want := []string{"DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C", "PATH=/opt/bin", "TERM=dumb", "http_proxy=p"}
	if diff := cmp.Diff(want, g.environment()); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestLines(t *testing.T) {
	var console, file bytes.Buffer
	w := newLineWriter(&console, "p: ")
	w.copyTo = &file
	for _, piece := range []string{"one\ntw", "o\r\n\n", "\x1b[1mbold\x1b[0m\tx\n", strings.Repeat("x", maxLine+1), "end"} {
		if n, err := io.WriteString(w, piece); n != len(piece) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	w.flush()
	want := "one\ntwo\n[1mbold[0m x\n" + strings.Repeat("x", maxLine) + "\nxend\n"
	if diff := cmp.Diff(want, file.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if got := strings.ReplaceAll(console.String(), "p: ", ""); got != want || strings.Count(console.String(), "p: ") != 5 {
		t.Errorf("the console has %q", console.String())
	}
}
