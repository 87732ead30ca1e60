// Package paths knows every directory, file and socket that banger uses on the
// host. No other package builds such a path by itself.
//
// The places follow the XDG base directory specification
// (https://specifications.freedesktop.org/basedir-spec/latest/); BANGER_HOME
// puts all of them into one directory.
package paths

import (
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is the room for a path in struct sockaddr_un, unix(7), less
// the terminating zero.
const maxSocketPath = 107

// Layout is where everything is. All fields are absolute directories.
type Layout struct {
	Config  string // config.toml, ssh keys
	State   string // records, one directory per VM
	Data    string // images and kernels
	Cache   string // what can be made or downloaded again
	Runtime string // sockets, pid files
}

// FromEnv derives the layout from BANGER_HOME, the XDG variables and HOME. It
// creates nothing. It fails when no home is known or when sockets below
// Runtime would have paths too long for the kernel.
func FromEnv() (Layout, error) {
	var l Layout
	if home := os.Getenv("BANGER_HOME"); home != "" {
		abs, err := filepath.Abs(home)
		if err != nil {
			return l, fmt.Errorf("resolve BANGER_HOME: %w", err)
		}
		l = Layout{
			Config:  filepath.Join(abs, "config"),
			State:   filepath.Join(abs, "state"),
			Data:    filepath.Join(abs, "share"),
			Cache:   filepath.Join(abs, "cache"),
			Runtime: filepath.Join(abs, "run"),
		}
		return l, l.check("set BANGER_HOME to a shorter path")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return l, fmt.Errorf("find the home directory: %w (set HOME or BANGER_HOME)", err)
	}
	l = Layout{
		Config: xdg("XDG_CONFIG_HOME", home, ".config"),
		State:  xdg("XDG_STATE_HOME", home, ".local/state"),
		Data:   xdg("XDG_DATA_HOME", home, ".local/share"),
		Cache:  xdg("XDG_CACHE_HOME", home, ".cache"),
	}
	l.Runtime = runtimeDir(l.State)
	return l, l.check("set XDG_RUNTIME_DIR to a shorter path")
}

// xdg returns banger's directory below the one that the variable names. The
// specification tells to ignore relative values.
func xdg(variable, home, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "banger")
	}
	return filepath.Join(home, fallback, "banger")
}

// RuntimeDirVariable names the environment variable that overrides the
// directory for sockets. A bangerd in a user namespace gets it from outside,
// since all that is derived from the uid differs there.
const RuntimeDirVariable = "BANGER_RUNTIME_DIR"

// runtimeDir picks the directory for sockets: XDG_RUNTIME_DIR, else the place
// that it has by convention, else one below the state directory (a user
// without a login session, say in cron or su, has no /run/user).
func runtimeDir(state string) string {
	if dir := os.Getenv(RuntimeDirVariable); filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "banger")
	}
	if os.Getuid() == 0 {
		return "/run/banger"
	}
	dir := fmt.Sprintf("/run/user/%d", os.Getuid())
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return filepath.Join(dir, "banger")
	}
	return filepath.Join(state, "run")
}

func (l Layout) check(hint string) error {
	longest := filepath.Join(l.VMRuntimeDir("0123456789ab"), "control.sock")
	if len(longest) > maxSocketPath {
		return fmt.Errorf("sockets under %s would have paths over %d bytes: %s", l.Runtime, maxSocketPath, hint)
	}
	return nil
}

// Create makes the top directories; only the user may look into them.
func (l Layout) Create() error {
	for _, dir := range []string{l.Config, l.State, l.Data, l.Cache, l.Runtime, l.VMsDir(), l.ImagesDir(), l.KernelsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create banger's directories: %w", err)
		}
	}
	return nil
}

// ConfigFile is the user's configuration.
func (l Layout) ConfigFile() string { return filepath.Join(l.Config, "config.toml") }

// SSHKey is the private key that opens every VM of this user.
func (l Layout) SSHKey() string { return filepath.Join(l.Config, "ssh", "id_ed25519") }

// Socket is where bangerd listens.
func (l Layout) Socket() string { return filepath.Join(l.Runtime, "bangerd.sock") }

// DaemonLock is locked (flock) by the bangerd that serves Socket.
func (l Layout) DaemonLock() string { return filepath.Join(l.Runtime, "bangerd.lock") }

// NetworkLock is locked (flock) while one of the host's instances, whatever their
// layouts, brings its network up or down.
func NetworkLock() string { return "/run/banger-network.lock" }

// NamespaceHolder describes the process that keeps the user's namespaces.
func (l Layout) NamespaceHolder() string { return filepath.Join(l.Runtime, "namespace.json") }

// NamespaceLock is locked (flock) while the user's namespaces are made, entered
// or given up.
func (l Layout) NamespaceLock() string { return filepath.Join(l.Runtime, "namespace.lock") }

// NamespaceHostDial is the socket by which what is inside the user's namespaces
// connects to the host's loopback.
func (l Layout) NamespaceHostDial() string { return filepath.Join(l.Runtime, "hostdial.sock") }

// NamespaceResolvConf is /etc/resolv.conf inside the user's namespaces where
// the host's would not work there.
func (l Layout) NamespaceResolvConf() string { return filepath.Join(l.Runtime, "resolv.conf") }

// DaemonLog is what bangerd writes.
func (l Layout) DaemonLog() string { return filepath.Join(l.State, "bangerd.log") }

// Database holds the records.
func (l Layout) Database() string { return filepath.Join(l.State, "banger.db") }

// Instance identifies the state directory among those of the host.
func (l Layout) Instance() string { return filepath.Join(l.State, "instance.json") }

// VMsDir holds a directory per VM.
func (l Layout) VMsDir() string { return filepath.Join(l.State, "vms") }

// VMDir holds a VM's disk, logs and generated files.
func (l Layout) VMDir(id string) string { return filepath.Join(l.VMsDir(), id) }

// VMDisk is a VM's writable layer.
func (l Layout) VMDisk(id string) string { return filepath.Join(l.VMDir(id), "disk.ext4") }

// VMSwap is where a running VM swaps to.
func (l Layout) VMSwap(id string) string { return filepath.Join(l.VMDir(id), "swap.raw") }

// VMConsole is a VM's console log.
func (l Layout) VMConsole(id string) string { return filepath.Join(l.VMDir(id), "console.log") }

// VMKnownHosts holds a VM's SSH host key in OpenSSH's known_hosts format.
func (l Layout) VMKnownHosts(id string) string { return filepath.Join(l.VMDir(id), "known_hosts") }

// VMCACerts holds the certificates of authorities that the guest is to trust.
func (l Layout) VMCACerts(id string) string { return filepath.Join(l.VMDir(id), "ca-certs.pem") }

// VMsRuntimeDir holds a directory of sockets per VM.
func (l Layout) VMsRuntimeDir() string { return filepath.Join(l.Runtime, "vm") }

// VMRuntimeDir holds a running VM's sockets.
func (l Layout) VMRuntimeDir(id string) string { return filepath.Join(l.VMsRuntimeDir(), id) }

// ImagesDir holds a directory per image.
func (l Layout) ImagesDir() string { return filepath.Join(l.Data, "images") }

// KernelsDir holds a directory per kernel.
func (l Layout) KernelsDir() string { return filepath.Join(l.Data, "kernels") }

// FirecrackerDir holds a directory per Firecracker release that "banger setup"
// installed.
func (l Layout) FirecrackerDir() string { return filepath.Join(l.Data, "firecracker") }

// DownloadsDir holds downloads until they are unpacked, and the starts of
// those that were cut off.
func (l Layout) DownloadsDir() string { return filepath.Join(l.Cache, "downloads") }

// InitramfsDir holds one initramfs per kernel and agent build.
func (l Layout) InitramfsDir() string { return filepath.Join(l.Cache, "initramfs") }

// OCICache holds the layers of registries' images, by digest.
func (l Layout) OCICache() string { return filepath.Join(l.Cache, "oci") }

// RemoteCatalog is the last catalog that was fetched from catalog_url.
func (l Layout) RemoteCatalog() string { return filepath.Join(l.Cache, "catalog.toml") }

// KVMProbe is the cached result of the KVM probe.
func (l Layout) KVMProbe() string { return filepath.Join(l.Cache, "kvm-probe.json") }
