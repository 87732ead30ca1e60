package cli

import (
	"strings"
	"testing"
)

// changesNothing are the commands that only tell something, or whose output is
// another program's. What isn't here changes something.
var changesNothing = []string{
	"banger completion bash", "banger completion fish", "banger completion powershell", "banger completion zsh",
	"banger daemon status", "banger doctor", "banger du", "banger exit-codes", "banger help", "banger version",
	"banger image list", "banger image show", "banger kernel list", "banger kernel show",
	"banger vm dial", "banger vm exec", "banger vm list", "banger vm logs", "banger vm run", "banger vm show",
	"banger vm ssh", "banger vm ssh-config",
}

// TestEveryChangeCanBeToldToPrograms: commands that change something have --json
// and --quiet, which exclude each other.
func TestEveryChangeCanBeToldToPrograms(t *testing.T) {
	known := strings.Join(changesNothing, "\n") + "\n"
	for _, cmd := range leaves(newRoot(newEnv(nil, nil, nil, nil))) {
		if strings.Contains(known, cmd.CommandPath()+"\n") {
			continue
		}
		quiet := cmd.Flags().Lookup("quiet")
		if cmd.Flags().Lookup("json") == nil || quiet == nil || quiet.Shorthand != "q" || cmd.PreRunE == nil {
			t.Errorf("%s has no --json, or no --quiet", cmd.CommandPath())
			continue
		}
		args := append(strings.Fields(cmd.CommandPath())[1:], hostileArgs[cmd.CommandPath()]...)
		var stdout, stderr strings.Builder
		ctx, signals := watchSignals(t.Context())
		status := run(ctx, newEnv(nil, &stdout, &stderr, signals), append(args, "--json", "-q"))
		signals.close()
		if status != 2 || !strings.Contains(stderr.String(), "--json and --quiet don't go together") {
			t.Errorf("%s --json -q: exit %d\n%s%s", cmd.CommandPath(), status, stdout.String(), stderr.String())
		}
	}
}
