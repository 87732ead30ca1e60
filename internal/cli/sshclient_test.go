package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/api"
)

// hostileConfig is what people have for the hosts that they trust.
const hostileConfig = `
Host *
  ForwardAgent yes
  ForwardX11 yes
  ForwardX11Trusted yes
  ControlMaster auto
  ControlPath /tmp/shared-%C
  ControlPersist 1h
  RemoteCommand tmux attach
  RequestTTY force
  PermitLocalCommand yes
  LocalCommand touch /tmp/ran
  RemoteForward 9000 localhost:22
  LocalForward 9001 localhost:22
  DynamicForward 9002
  SendEnv SECRET_*
  SetEnv TOKEN=secret
  Tunnel yes
  ProxyJump bastion
  AddKeysToAgent yes
  IdentityFile ~/.ssh/work
  CertificateFile ~/.ssh/work-cert.pub
  IdentitiesOnly no
  PasswordAuthentication yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  User somebody
`

func testTarget() sshTarget {
	return sshTarget{
		vm:     api.VM{ID: "0123", Name: "web"},
		access: api.Access{User: "root", KeyPath: "/keys/id", KnownHosts: "/keys/known", HostAlias: "0123.banger"},
		dial:   "banger vm dial 0123",
	}
}

// sshResolves runs ssh -G, which prints what it would do; "config" stands for
// a file with hostileConfig. Each setting may have several values.
func sshResolves(t *testing.T, argv []string) (map[string][]string, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(hostileConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	argv = slices.Clone(argv)
	for i, arg := range argv {
		if arg == "config" {
			argv[i] = file
		}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], slices.Concat([]string{"-v", "-G"}, argv[1:])...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, stderr.String())
	}
	resolved := make(map[string][]string)
	for line := range strings.Lines(stdout.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		resolved[name] = append(resolved[name], value)
	}
	return resolved, stderr.String()
}

// checkResolved compares the wanted settings; an empty one must not be there.
func checkResolved(t *testing.T, what string, got map[string][]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if v := strings.Join(got[name], ","); v != value {
			t.Errorf("%s: %s is %q, want %q", what, name, v, value)
		}
	}
}

// safeSettings are what a guest may have of the host: nothing.
func safeSettings() map[string]string {
	return map[string]string{
		"user": "root", "hostkeyalias": "0123.banger", "proxycommand": "banger vm dial 0123", "proxyjump": "",
		"forwardagent": "no", "forwardx11": "no", "forwardx11trusted": "no", "tunnel": "false",
		"controlmaster": "false", "controlpath": "", "permitlocalcommand": "no", "remotecommand": "",
		"addkeystoagent": "false", "identitiesonly": "yes", "preferredauthentications": "publickey",
		"stricthostkeychecking": "true", "userknownhostsfile": "/keys/known",
	}
}

// TestSSHTakesNothingFromConfiguration: neither the host's nor the user's
// configuration of ssh counts for a VM.
func TestSSHTakesNothingFromConfiguration(t *testing.T) {
	got, log := sshResolves(t, testTarget().argv(nil, nil))
	if strings.Contains(log, "Reading configuration data") {
		t.Errorf("ssh reads a configuration:\n%s", log)
	}
	want := safeSettings()
	for _, name := range []string{"remoteforward", "localforward", "dynamicforward", "setenv", "certificatefile", "localcommand"} {
		want[name] = ""
	}
	want["identityfile"] = "/keys/id"
	want["sendenv"] = "LANG,LC_*,COLORTERM,NO_COLOR"
	checkResolved(t, "vm ssh", got, want)
}

// TestSSHWithConfiguration: one that is asked for forwards nothing that can be
// kept from it.
func TestSSHWithConfiguration(t *testing.T) {
	got, _ := sshResolves(t, testTarget().argv([]string{"-F", "config"}, []string{"true"}))
	checkResolved(t, "vm ssh -F", got, safeSettings())
	if got["remoteforward"] == nil {
		t.Error("the configuration was not read")
	}
}

// TestSSHFlagsWin: what the user asks for on the command line counts.
func TestSSHFlagsWin(t *testing.T) {
	for flags, want := range map[string]map[string]string{
		"-A":                          {"forwardagent": "yes"},
		"-F config -A":                {"forwardagent": "yes"},
		"-o ForwardAgent=yes":         {"forwardagent": "yes"},
		"-X":                          {"forwardx11": "yes", "forwardx11trusted": "no"},
		"-Y":                          {"forwardx11": "yes", "forwardx11trusted": "yes"},
		"-S /tmp/mine -M":             {"controlpath": "/tmp/mine", "controlmaster": "true"},
		"-l bob":                      {"user": "bob"},
		"-o User=bob":                 {"user": "bob"},
		"-o RemoteCommand=top":        {"remotecommand": "top"},
		"-L 8080:localhost:80":        {"localforward": "8080 [localhost]:80", "remoteforward": ""},
		"-R 8080:localhost:80":        {"remoteforward": "8080 [localhost]:80"},
		"-o SendEnv=MINE":             {"sendenv": "MINE,LANG,LC_*,COLORTERM,NO_COLOR"},
		"-o PermitLocalCommand=yes":   {"permitlocalcommand": "yes"},
		"-o StrictHostKeyChecking=no": {"stricthostkeychecking": "false"},
	} {
		got, _ := sshResolves(t, testTarget().argv(strings.Fields(flags), nil))
		checkResolved(t, "vm ssh "+flags, got, want)
	}
}

// TestSSHConfig: other programs get the same from a file.
func TestSSHConfig(t *testing.T) {
	t.Setenv("BANGER_HOME", "/b c")
	file := filepath.Join(t.TempDir(), "web.ssh")
	if err := os.WriteFile(file, []byte(testTarget().config()+hostileConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _ := sshResolves(t, []string{"ssh", "-F", file, "web"})
	want := safeSettings()
	want["proxycommand"] = "env 'BANGER_HOME=/b c' banger vm dial 0123"
	checkResolved(t, "ssh-config", got, want)
}

func TestSSHQuoting(t *testing.T) {
	target := testTarget()
	target.dial = shellQuote("/opt/b c/banger%") + " vm dial 0123"
	target.access.KeyPath = "/a b/100%"
	argv := target.argv(nil, nil)
	for _, want := range []string{"ProxyCommand='/opt/b c/banger%%' vm dial 0123", `IdentityFile="/a b/100%%"`} {
		if !slices.Contains(argv, want) {
			t.Errorf("no option %s in %q", want, argv)
		}
	}
	if got, _ := sshResolves(t, argv); got["proxycommand"][0] != target.dial && got["proxycommand"][0] != percent(target.dial) {
		t.Errorf("ssh takes the command for %q", got["proxycommand"])
	}
}
