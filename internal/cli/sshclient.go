package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/api"
	"banger/internal/cli/termtext"
	"banger/internal/terminfo"
)

// setting is one of ssh_config(5).
type setting struct{ name, value string }

// sshTarget is what OpenSSH needs to reach a VM.
type sshTarget struct {
	vm     api.VM
	access api.Access
	dial   string // the command that joins it to the VM, for a shell
	// terminfo describes this terminal, see terminfo.Variable; "" for nothing.
	terminfo string
}

// findSSHTarget asks bangerd for the way into a VM.
func findSSHTarget(ctx context.Context, e *env, name string) (sshTarget, error) {
	vm, err := call(ctx, e, api.GetVM, api.None{}, name)
	if err != nil {
		return sshTarget{}, err
	}
	access, err := call(ctx, e, api.GetAccess, api.None{}, vm.ID)
	if err != nil {
		return sshTarget{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return sshTarget{}, fmt.Errorf("find banger's own path: %w", err)
	}
	return sshTarget{vm: vm, access: access, dial: shellQuote(self) + " vm dial " + vm.ID}, nil
}

// settings are what makes ssh reach the VM through "banger vm dial", trust
// nothing but the VM's own host key, and give the guest nothing of the host:
// no agent, no display, no connection to another host of that name, no command
// that is meant for others, and no password, however it asks.
func (t sshTarget) settings() []setting {
	return []setting{
		{"ProxyCommand", percent(t.dial)},
		{"HostKeyAlias", t.access.HostAlias},
		{"UserKnownHostsFile", configQuote(t.access.KnownHosts)},
		{"GlobalKnownHostsFile", "none"},
		{"StrictHostKeyChecking", "yes"},
		{"CheckHostIP", "no"},
		{"UpdateHostKeys", "no"},
		{"IdentityFile", configQuote(t.access.KeyPath)},
		{"IdentitiesOnly", "yes"},
		{"PreferredAuthentications", "publickey"},
		{"AddKeysToAgent", "no"},
		{"ForwardAgent", "no"},
		{"ForwardX11", "no"},
		{"ForwardX11Trusted", "no"},
		{"Tunnel", "no"},
		{"ControlMaster", "no"},
		{"ControlPath", "none"},
		{"PermitLocalCommand", "no"},
		{"RemoteCommand", "none"},
		// A guest that doesn't answer is given up as by vm exec.
		{"ConnectTimeout", "120"},
		{"ServerAliveInterval", "15"},
		{"ServerAliveCountMax", "8"},
		// As distributions' configurations have it.
		{"SendEnv", "LANG LC_* COLORTERM NO_COLOR"},
		{"User", t.access.User},
	}
}

// argv is a command line of ssh. The user's own flags win: of a setting, ssh
// takes the first value that it is given, and of -F the last.
//
// -F none is for what a setting can't take back: the forwarded ports, the
// variables and the keys of "Host *", which is meant for hosts that are
// trusted.
func (t sshTarget) argv(flags, command []string) []string {
	argv := slices.Concat([]string{"ssh", "-F", "none"}, flags)
	settings := t.settings()
	if t.terminfo != "" {
		settings = append(settings, setting{"SetEnv", terminfo.Variable + "=" + t.terminfo})
	}
	for _, s := range settings {
		argv = append(argv, "-o", s.name+"="+s.value)
	}
	return slices.Concat(argv, []string{"--", t.vm.Name}, command)
}

// config is a section of an ssh_config(5). Programs that read it may have
// another environment than this one.
func (t sshTarget) config() string {
	var text strings.Builder
	if home, err := filepath.Abs(os.Getenv("BANGER_HOME")); err == nil && os.Getenv("BANGER_HOME") != "" {
		t.dial = "env " + shellQuote("BANGER_HOME="+home) + " " + t.dial
	}
	fmt.Fprintf(&text, "Host %s\n", termtext.Line(t.vm.Name))
	for _, s := range t.settings() {
		fmt.Fprintf(&text, "  %s %s\n", s.name, termtext.Line(s.value))
	}
	return text.String()
}

// percent keeps ssh from expanding tokens such as %h.
func percent(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// configQuote makes a path one value of ssh_config(5).
func configQuote(path string) string { return `"` + percent(path) + `"` }
