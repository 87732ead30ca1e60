package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/termtext"
	"banger/internal/session"
)

func TestParseSize(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	tests := []struct {
		text string
		bare int64
		want int64 // 0: an error
	}{
		{"2048", mib, 2048 * mib},
		{"2048M", mib, 2 * gib},
		{"2G", mib, 2 * gib},
		{"2GiB", mib, 2 * gib},
		{"2 GiB", 0, 2 * gib},
		{"2gb", 0, 2 * gib},
		{"1.5g", 0, 3 * gib / 2},
		{"1T", 0, 1 << 40},
		{"512K", 0, 512 << 10},
		{"4096B", 0, 4096},
		{"20", 0, 0},
		{"", mib, 0},
		{"G", mib, 0},
		{"-1G", mib, 0},
		{"+1G", mib, 0},
		{"1e3", mib, 0},
		{"0x10", mib, 0},
		{"NaN", mib, 0},
		{"Inf", mib, 0},
		{"1.2.3G", mib, 0},
		{"1GM", mib, 0},
		{"1Gi", mib, 0},
		{"1iB", mib, 0},
		{"1PB", mib, 0},
		{"9000T", mib, 0},
	}
	for _, tt := range tests {
		got, err := parseSize(tt.text, tt.bare)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("parseSize(%q, %d) = %d, %v; want %d", tt.text, tt.bare, got, err, tt.want)
		}
	}
}

func TestExitCode(t *testing.T) {
	lost := &session.LostError{Cause: errors.New("reset")}
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{&exitError{42}, 42},
		{fmt.Errorf("run: %w", lost), 125},
		{fmt.Errorf("list: %w", api.ErrNotFound), 4},
		{multiError{api.ErrConflict, api.ErrNotFound}, 5},
		{fmt.Errorf("write table: %w", syscall.EPIPE), 141},
		{fmt.Errorf("run: %w", context.Canceled), 130},
		{api.Errorf("new", "a code of the future"), 1},
	}
	for _, tt := range tests {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestExitStatuses: every code has exactly one row, every row its own status.
func TestExitStatuses(t *testing.T) {
	codes := []api.Code{
		api.CodeInvalid, api.CodeNotFound, api.CodeExists, api.CodeConflict, api.CodeHost, api.CodeTimeout,
		api.CodeGuest, api.CodeDaemon, api.CodeVersion, api.CodeCancelled, api.CodeInternal,
	}
	var listed []api.Code
	seen := make(map[int]bool)
	for _, s := range statuses() {
		if seen[s.exit] {
			t.Errorf("status %d has two rows", s.exit)
		}
		seen[s.exit] = true
		listed = append(listed, s.codes...)
	}
	slices.Sort(codes)
	slices.Sort(listed)
	if diff := cmp.Diff(codes, listed); diff != "" {
		t.Errorf("codes of the table (-want +got):\n%s", diff)
	}
}

func TestPrintError(t *testing.T) {
	var out bytes.Buffer
	printError(termtext.NewWriter(&out), multiError{
		api.Errorf(api.CodeHost, "no disk").WithHint("buy one"),
		fmt.Errorf("open: %w", api.ErrNotFound),
		&exitError{3},
	})
	want := "banger: no disk\n  hint: buy one\nbanger: open: \n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestHelp keeps the help texts alike: a verb first, a capital, no full stop,
// an example wherever there are arguments.
func TestHelp(t *testing.T) {
	e := newEnv(nil, &bytes.Buffer{}, &bytes.Buffer{}, nil)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		first, _, _ := strings.Cut(cmd.Short, " ")
		switch {
		case cmd.Short == "":
			t.Errorf("%s has no short help", path)
		case !unicode.IsUpper([]rune(cmd.Short)[0]):
			t.Errorf("%s: %q doesn't begin with a capital", path, cmd.Short)
		case strings.HasSuffix(cmd.Short, "."):
			t.Errorf("%s: %q ends with a full stop", path, cmd.Short)
		case strings.HasSuffix(first, "s") || strings.HasSuffix(first, "ing"):
			t.Errorf("%s: %q doesn't begin with a verb in the imperative", path, cmd.Short)
		}
		_, arguments, _ := strings.Cut(strings.TrimSuffix(cmd.Use, " [flags]"), " ")
		if arguments != "" && cmd.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
				t.Errorf("%s: a line of the help has %d columns: %s", path, n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(e))
}

func TestSplitSSHFlags(t *testing.T) {
	tests := []struct {
		args        string
		flags, rest string
	}{
		{"web ls -l", "", "web ls -l"},
		{"-v web", "-v", "web"},
		{"-p 22 web", "-p 22", "web"},
		{"-p22 web", "-p22", "web"},
		{"-NL 80:x:80 web", "-NL 80:x:80", "web"},
		{"-oA=b web", "-oA=b", "web"},
		{"-o A=b -- web", "-o A=b", "web"},
		{"-v", "-v", ""},
		{"-p", "-p", ""},
		{"- web", "", "- web"},
	}
	for _, tt := range tests {
		flags, rest := splitSSHFlags(strings.Fields(tt.args))
		if strings.Join(flags, " ") != tt.flags || strings.Join(rest, " ") != tt.rest {
			t.Errorf("splitSSHFlags(%s) = %v, %v; want [%s], [%s]", tt.args, flags, rest, tt.flags, tt.rest)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", time.Minute: "1m", 59 * time.Minute: "59m",
		time.Hour: "1h", 47 * time.Hour: "47h", 49 * time.Hour: "2d", 1000 * time.Hour: "41d",
	} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("age of %v = %q, want %q", d, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a/b-c.d": "a/b-c.d", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}
