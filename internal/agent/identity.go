package agent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// hostsMark ends the line of /etc/hosts that belongs to banger.
const hostsMark = "# banger"

// writeIdentity writes what makes the root filesystem that of this VM.
func writeIdentity(root *rootDir, config guest.BootConfig, systemd, firstBoot bool) error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"host name", func() error { return writeHostname(root, config.Hostname) }},
		{"resolv.conf", func() error { return writeResolvConf(root, config.DNS) }},
		{"machine id", func() error { return writeMachineID(root, firstBoot) }},
		{"authorized keys", func() error { return writeAuthorizedKeys(root, config.AuthorizedKeys) }},
		{"environment", func() error { return writeEnvironment(root, config.Env) }},
		{"proxy", func() error { return writeProxy(root, config.Env, systemd) }},
		{"network units", func() error { return keepNetworkManagersOff(root, config.MAC, systemd) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("write %s into the guest: %w", step.what, err)
		}
	}
	return nil
}

func writeHostname(root *rootDir, name string) error {
	if name == "" {
		return nil
	}
	if err := root.writeFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	old, err := root.readFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.writeFile("/etc/hosts", []byte(editHosts(string(old), name)), 0o644)
}

// editHosts gives a host's own name an address of the loopback interface, as
// Debian does, and keeps all other lines.
func editHosts(old, name string) string {
	var b strings.Builder
	localhost := false
	for line := range strings.Lines(old) {
		if strings.HasSuffix(strings.TrimSpace(line), hostsMark) {
			continue
		}
		localhost = localhost || slices.Contains(strings.Fields(line), "localhost")
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if !localhost {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	b.WriteString("127.0.1.1\t" + name + "\t" + hostsMark + "\n")
	return b.String()
}

// writeResolvConf replaces resolv.conf, which is often a symlink to a file of
// systemd-resolved that banger's address isn't in.
func writeResolvConf(root *rootDir, servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("# Written by banger at every boot.\n")
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	return root.writeFile("/etc/resolv.conf", []byte(b.String()), 0o644)
}

// machineIDLen is the length of a machine id in hex digits, machine-id(5).
const machineIDLen = 32

// writeMachineID gives every VM an id of its own at its first boot, also if the
// image was made from a VM that had one. Later boots keep it.
func writeMachineID(root *rootDir, firstBoot bool) error {
	old, err := root.readFile("/etc/machine-id")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !firstBoot && len(strings.TrimSpace(string(old))) == machineIDLen {
		return nil
	}
	id := make([]byte, machineIDLen/2)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID, RFC 9562 5.4
	line := []byte(hex.EncodeToString(id) + "\n")
	if err := root.writeFile("/etc/machine-id", line, 0o444); err != nil {
		return err
	}
	const dbus = "/var/lib/dbus/machine-id" // a copy, unless it is a symlink
	if f, err := root.open(dbus, unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
		info, err := f.Stat()
		_ = f.Close()
		if err == nil && info.Mode().IsRegular() {
			return root.writeFile(dbus, line, 0o444)
		}
	}
	return nil
}

// writeAuthorizedKeys adds keys to root's, for an sshd of the image.
func writeAuthorizedKeys(root *rootDir, keys []string) error {
	const dir, file = "/root/.ssh", "/root/.ssh/authorized_keys"
	home, err := root.mkdirAll("/root", 0o700)
	if err != nil {
		return err
	}
	_ = home.Close()
	handle, err := root.mkdirAll(dir, 0o700)
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := unix.Chmod(fdPath(handle), 0o700); err != nil {
		return err
	}
	old, err := root.readFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(old), "\n"), "\n")
	for _, key := range keys {
		if key = strings.TrimSpace(key); !slices.Contains(lines, key) {
			lines = append(lines, key)
		}
	}
	content := strings.TrimLeft(strings.Join(lines, "\n")+"\n", "\n")
	return root.writeFile(file, []byte(content), 0o600)
}

// environmentFile is read by login shells.
const environmentFile = "/etc/profile.d/banger.sh"

// writeEnvironment sets variables in login shells of whatever origin; sessions
// of the agent have them anyway.
func writeEnvironment(root *rootDir, env map[string]string) error {
	if len(env) == 0 && !root.exists(environmentFile) {
		return nil
	}
	var b strings.Builder
	b.WriteString("# Written by banger at every boot.\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(env[name], "'", `'\''`))
	}
	return root.writeFile(environmentFile, []byte(b.String()), 0o644)
}

// keepNetworkManagersOff tells the network managers that an image may have to
// leave the interface as banger configured it.
func keepNetworkManagersOff(root *rootDir, mac string, systemd bool) error {
	files := map[string]string{}
	if mac != "" && systemd {
		files["/etc/systemd/network/00-banger.network"] = "[Match]\nMACAddress=" + mac + "\n\n[Link]\nUnmanaged=yes\n"
		files["/etc/NetworkManager/conf.d/00-banger.conf"] = "[keyfile]\nunmanaged-devices=mac:" + mac + "\n"
	}
	if root.exists("/etc/cloud") {
		files["/etc/cloud/cloud-init.disabled"] = "" // it would look for a metadata service
	}
	for name, content := range files {
		if err := root.writeFile(name, []byte("# Written by banger at every boot.\n"+content), 0o644); err != nil {
			return err
		}
	}
	if !systemd {
		return nil
	}
	// ifupdown's units, and one that waits for networkd to configure something.
	for _, unit := range []string{"networking.service", "ifup@.service", "systemd-networkd-wait-online.service"} {
		if err := root.symlink("/dev/null", "/etc/systemd/system/"+unit); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes what the host gives, and returns a line for each file that
// has no place: a guest can put a directory there, and boots all the same.
func writeFiles(root *rootDir, files []guest.File) (warnings []string) {
	for _, f := range files {
		if err := root.writeFile(f.Path, f.Data, fileMode(f.Mode)); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s was not written in the guest: %v", f.Path, err))
		}
	}
	return warnings
}
