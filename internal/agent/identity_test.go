package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/guest"
)

func TestEditHosts(t *testing.T) {
	first := editHosts("# mine\n10.0.0.1 db", "fox")
	want := "# mine\n10.0.0.1 db\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tfox\t# banger\n"
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	second := editHosts(first, "hen")
	if diff := cmp.Diff(strings.Replace(want, "fox", "hen", 1), second); diff != "" {
		t.Errorf("hosts of a renamed VM (-want +got):\n%s", diff)
	}
}

func TestMachineIDIsPerVMAndStable(t *testing.T) {
	root, dir, _ := newTestRoot(t)
	const path = "etc/machine-id"
	baked := strings.Repeat("a", machineIDLen) + "\n"
	if err := os.WriteFile(filepath.Join(dir, path), []byte(baked), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := writeMachineID(root, true); err != nil {
		t.Fatal(err)
	}
	id := read(t, filepath.Join(dir, path))
	if id == baked || len(id) != machineIDLen+1 {
		t.Errorf("the first boot leaves %q", id)
	}
	if err := writeMachineID(root, false); err != nil {
		t.Fatal(err)
	}
	if again := read(t, filepath.Join(dir, path)); again != id {
		t.Errorf("the second boot changed %q to %q", id, again)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/new"), []byte("uninitialized\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "etc/new"), filepath.Join(dir, path)); err != nil {
		t.Fatal(err)
	}
	if err := writeMachineID(root, false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dir, path)); len(got) != machineIDLen+1 {
		t.Errorf("an unset id became %q", got)
	}
}

func TestWriteIdentity(t *testing.T) {
	root, dir, outside := newTestRoot(t)
	if err := os.MkdirAll(filepath.Join(dir, "root/.ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root/.ssh/authorized_keys"), []byte("ssh-ed25519 MINE me\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	config := guest.BootConfig{
		Hostname: "fox", MAC: "52:54:00:00:00:01", DNS: []string{"10.0.0.1"},
		AuthorizedKeys: []string{"ssh-ed25519 HOST banger\n"},
		Env:            map[string]string{"QUOTE": "it's $HOME\nand more"},
		Files:          []guest.File{{Path: "/root/.secret", Mode: 0o600, Data: []byte("s")}, {Path: "/etc/evil", Mode: 0o644, Data: []byte("e")}},
	}
	for range 2 { // every boot does it again
		if err := writeIdentity(root, config, true, false); err != nil {
			t.Fatal(err)
		}
		if warnings := writeFiles(root, config.Files); len(warnings) > 0 {
			t.Errorf("warnings %q", warnings)
		}
	}
	for name, want := range map[string]string{
		"etc/hostname":              "fox\n",
		"etc/resolv.conf":           "# Written by banger at every boot.\nnameserver 10.0.0.1\n",
		"root/.ssh/authorized_keys": "ssh-ed25519 MINE me\nssh-ed25519 HOST banger\n",
		"root/.secret":              "s",
		"etc/evil":                  "e",
	} {
		if diff := cmp.Diff(want, read(t, filepath.Join(dir, name))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "root/.ssh")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf(".ssh has the wrong mode (%v)", err)
	}
	out, err := exec.Command("sh", "-c", ". "+filepath.Join(dir, "etc/profile.d/banger.sh")+`; printf %s "$QUOTE"`).Output()
	if err != nil || string(out) != config.Env["QUOTE"] {
		t.Errorf("a login shell sees %q (%v)", out, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "etc/systemd/system/networking.service")); err != nil || target != "/dev/null" {
		t.Errorf("networking.service leads to %q (%v)", target, err)
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
		t.Errorf("outside are %v (%v)", found, err)
	}
}
