package dockerbuild

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

func TestTooNew(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		line int
		what string
	}{
		"plain":                 {"FROM a\nRUN make\n", 0, ""},
		"mount":                 {"FROM a\nRUN --mount=type=cache,target=/c make\nCOPY --chmod=755 --from=b c d\n", 0, ""},
		"heredoc of RUN":        {"FROM a\nRUN <<EOF\necho\nEOF\n", 2, "a here-document (<<EOF)"},
		"heredoc of COPY":       {"FROM a\n\nCOPY <<-\"END\" /x\n\ttext\n\tEND\n", 3, "a here-document (<<END)"},
		"heredoc, lower case":   {"from a\nrun cat <<'E' >x\nE", 2, "a here-document (<<E)"},
		"link":                  {"FROM a\nCOPY --from=b --link x y\n", 2, "COPY --link"},
		"link of ONBUILD":       {"FROM a\nONBUILD COPY --link x y\n", 2, "COPY --link"},
		"checksum":              {"FROM a\n# why\nADD \\\n  # what\n  --checksum=sha256:00 \\\n https://h/x /x\n", 3, "ADD --checksum"},
		"network":               {"FROM a\nRUN --network=none make\n", 2, "RUN --network"},
		"git":                   {"FROM a\nADD https://h/x.git#v1 /x\n", 2, "ADD of a git repository"},
		"escape":                {"# escape=`\nFROM a\nCOPY `\n --link x y\n", 3, "COPY --link"},
		"another escape":        {"FROM a\nRUN x `\n--link\n", 0, ""},
		"asks for a frontend":   {"#syntax=docker/dockerfile:1\nFROM a\nRUN <<EOF\nEOF\n", 0, ""},
		"asks after directives": {"# escape=\\\n# Syntax = x\nCOPY --link x y\n", 0, ""},
		"asks too late":         {"# a comment\n# syntax=x\nCOPY --link x y\n", 3, "COPY --link"},
		"here-string":           {"FROM a\nRUN cat <<<EOF\nEOF\n", 0, ""},
		"shift":                 {"FROM a\nRUN echo $((1 << 3)) $((1<<A))\nA\n", 0, ""},
		"a heredoc without end": {"FROM a\nRUN cat <<EOF\n", 0, ""},
		"flag of a command":     {"FROM a\nRUN ld --link x\n", 0, ""},
		"CRLF":                  {"FROM a\r\nCOPY --link x y\r\n", 2, "COPY --link"},
		"byte order mark":       {"\xef\xbb\xbf# syntax=x\nCOPY --link x y\n", 0, ""},
		"empty":                 {"", 0, ""},
	} {
		if line, what := tooNew([]byte(c.file)); line != c.line || what != c.what {
			t.Errorf("%s: line %d, %q; want %d, %q", name, line, what, c.line, c.what)
		}
	}
}

// What Docker in the VM can't build costs no VM.
func TestTooNewIsRefusedBeforeAVM(t *testing.T) {
	f := newFakeVM(t)
	file := filepath.Join(t.TempDir(), "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM scratch\nCOPY --link a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &Builder{VMs: f, Image: "x"}
	err := b.BuildDockerfile(t.Context(), api.BuildImage{File: file, Context: filepath.Dir(file)}, nil, nil)
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "--link") {
		t.Errorf("got %v", err)
	}
	if f.deleted {
		t.Error("a VM was started")
	}
}

func FuzzTooNew(f *testing.F) {
	f.Add([]byte("# escape=`\nFROM a\nRUN --mount=x <<E `\nE\nADD --checksum=x a b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		line, what := tooNew(data)
		if (line == 0) != (what == "") || line > strings.Count(string(data), "\n")+1 {
			t.Errorf("line %d, %q", line, what)
		}
	})
}
