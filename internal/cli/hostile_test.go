package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/cli/termtext"
	"banger/internal/daemon"
	"banger/internal/daemon/daemontest"
	"banger/internal/session"
)

// hostileArgs has the arguments that each command is tested with; nil for those
// that print nothing that is another's.
var hostileArgs = map[string][]string{
	"banger completion bash": nil, "banger completion fish": nil,
	"banger completion powershell": nil, "banger completion zsh": nil,
	"banger exit-codes": nil, "banger help": nil, "banger version": nil,
	// These start, stop and install programs. Of the answers of others they
	// print an error at most.
	"banger daemon restart": nil, "banger daemon start": nil, "banger daemon stop": nil, "banger setup": nil,
	"banger vm dial": nil, // its output is the guest's

	"banger daemon status":  {},
	"banger doctor":         {},
	"banger du":             {},
	"banger image build":    {"file.toml"},
	"banger image commit":   {"web", "name"},
	"banger image delete":   {"name"},
	"banger image export":   {"name", "-o", "out.tar.zst"},
	"banger image import":   {"file.tar.zst"},
	"banger image list":     {},
	"banger image prune":    {},
	"banger image pull":     {"name"},
	"banger image register": {"--name", "name", "--rootfs", "file.toml"},
	"banger image show":     {"name"},
	"banger kernel delete":  {"name"},
	"banger kernel export":  {"name", "-o", "out.tar.zst"},
	"banger kernel import":  {"--name", "name", "--image", "file.toml", "--modules", "."},
	"banger kernel list":    {},
	"banger kernel prune":   {},
	"banger kernel pull":    {"name"},
	"banger kernel show":    {"name"},
	"banger vm create":      {"--timing"},
	"banger vm delete":      {"web"},
	"banger vm exec":        {"web", "true"},
	"banger vm list":        {},
	"banger vm logs":        {"web"},
	"banger vm restart":     {"web"},
	"banger vm run":         {"--timing", "--", "true"},
	"banger vm show":        {"web"},
	"banger vm ssh-config":  {"web"},
	"banger vm ssh":         {"web"},
	"banger vm start":       {"web", "--timing"},
	"banger vm stop":        {"web"},
}

// hostileFlags change what is printed; each is tried where it exists.
var hostileFlags = []string{"", "--json", "--quiet", "--catalog", "--dry-run", "--force", "--rm"}

// barMoves is what the bars of package progress move the cursor with.
var barMoves = regexp.MustCompile(`\x1b\[[0-9]+A\x1b\[J`)

// TestNoCommandPrintsControlCharacters: whatever bangerd's answers hold, no
// command passes it to the terminal.
func TestNoCommandPrintsControlCharacters(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, file := range []string{"file.toml", "file.tar.zst"} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, fail := range []bool{false, true} {
		serveHostile(t, fail)
		for _, cmd := range leaves(newRoot(newEnv(nil, nil, nil, nil))) {
			args, known := hostileArgs[cmd.CommandPath()]
			if !known {
				t.Errorf("%s has no line in hostileArgs", cmd.CommandPath())
			}
			if args == nil {
				continue
			}
			for _, flag := range hostileFlags {
				if name := strings.TrimPrefix(flag, "--"); flag != "" && cmd.Flags().Lookup(name) == nil {
					continue
				}
				checkHostile(t, cmd, fail, append([]string{flag}, args...))
			}
		}
	}
}

// leaves returns the commands that have none below them.
func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasParent() {
		cmd.InitDefaultHelpCmd()
		cmd.InitDefaultCompletionCmd()
	}
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var found []*cobra.Command
	for _, sub := range cmd.Commands() {
		found = append(found, leaves(sub)...)
	}
	return found
}

// serveHostile starts a bangerd whose answers are full of hostile text.
func serveHostile(t *testing.T, fail bool) {
	t.Helper()
	_, serve := listenAt(t)
	vms, images, kernels := daemontest.HostileServices(fail)
	serve(daemon.New(daemon.Config{
		Version: "v1.0.0", Log: slog.New(slog.DiscardHandler),
		VMs: vms, Images: images, Kernels: kernels, Usage: images, Hosts: vms,
	}))
}

// checkHostile runs a command, with bars and without.
func checkHostile(t *testing.T, cmd *cobra.Command, fail bool, args []string) {
	t.Helper()
	args = slices.Concat(strings.Fields(cmd.CommandPath())[1:], slices.DeleteFunc(args, func(s string) bool { return s == "" }))
	for _, drawable := range []bool{false, true} {
		var stdout, stderr bytes.Buffer
		ctx, signals := watchSignals(t.Context())
		e := newEnv(strings.NewReader("y\n"), &stdout, &stderr, signals)
		e.version, e.drawable, e.stdinTTY, e.stdoutTTY = "v1.0.0", drawable, true, true
		e.runSession = func(context.Context, session.Options) (session.Result, error) { return session.Result{}, nil }
		e.exec = func(string, []string, []string) error { return nil }
		e.now = func() time.Time { return time.Unix(1_800_000_000, 0) }
		status := run(ctx, e, args)
		signals.close()

		name := "banger " + strings.Join(args, " ")
		told := stdout.String() + barMoves.ReplaceAllString(stderr.String(), "")
		for _, r := range told {
			if termtext.Unsafe(r) && r != '\n' && r != '\t' {
				t.Errorf("%s (status %d) prints %q:\n%q", name, status, r, told)
				break
			}
		}
		if strings.Contains(told, "\nbanger: forged") {
			t.Errorf("%s prints a message that an answer has forged:\n%s", name, told)
		}
		if fail && !strings.Contains(told, `1b]52;c;cm0=\`) {
			t.Errorf("%s doesn't tell the error:\n%s", name, told)
		}
		// What is deleted is told by the name that the user has typed.
		if slices.Contains(args, "--json") && !fail && cmd.Name() != "delete" {
			checkExact(t, name, stdout.Bytes())
		}
	}
}

// checkExact fails if the hostile text isn't in some string of the JSON.
func checkExact(t *testing.T, name string, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v in:\n%s", name, err, text)
		return
	}
	if !hasString(v, daemontest.HostileText) {
		t.Errorf("%s doesn't print the text exactly:\n%s", name, text)
	}
}

func hasString(v any, want string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, want)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return hasString(v, want) })
	case map[string]any:
		for key, value := range v {
			if key == want || hasString(value, want) {
				return true
			}
		}
	}
	return false
}
