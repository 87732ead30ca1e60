package openssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeGuest is a root directory whose programs are run by a function.
type fakeGuest struct {
	t *testing.T
	Guest
	console  bytes.Buffer
	commands []string                                // that were run
	effects  map[string]func(output io.Writer) error // by the program's base name; others succeed
}

const program = "#!"

func newFakeGuest(t *testing.T, files map[string]string) *fakeGuest {
	g := &fakeGuest{t: t, effects: map[string]func(io.Writer) error{}}
	g.Root, g.Console, g.Run = t.TempDir(), &g.console, g.run
	g.write("/proc/sys/kernel/random/boot_id", "boot-1\n")
	g.write("/bin/sh", program)
	for name, content := range files {
		g.write(name, content)
	}
	g.effects["ssh-keygen"] = func(io.Writer) error { g.write("/etc/ssh/ssh_host_rsa_key", "k"); return nil }
	return g
}

func (g *fakeGuest) write(name, content string) {
	g.t.Helper()
	mode := os.FileMode(0o644)
	if content == program {
		mode = 0o755
	}
	path := filepath.Join(g.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		g.t.Fatal(err)
	}
}

func (g *fakeGuest) read(name string) string {
	g.t.Helper()
	content, err := os.ReadFile(filepath.Join(g.Root, name))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(content)
}

func (g *fakeGuest) run(_ context.Context, argv, _ []string, output io.Writer) error {
	command := argv[4:] // behind the shell that execs it
	g.commands = append(g.commands, strings.Join(command, " "))
	if effect := g.effects[filepath.Base(command[0])]; effect != nil {
		return effect(output)
	}
	return nil
}

// ensure makes a try and returns the commands that it ran.
func (g *fakeGuest) ensure() ([]string, error) {
	g.commands = nil
	err := g.Ensure(g.t.Context())
	return g.commands, err
}

// installs makes a package manager bring a server.
func (g *fakeGuest) installs(manager string) {
	g.write("/usr/bin/"+manager, program)
	g.effects[manager] = func(w io.Writer) error {
		_, _ = io.WriteString(w, "10%\r100%\nUnpacking openssh-server")
		g.write("/usr/sbin/sshd", program)
		g.write("/usr/bin/ssh-keygen", program)
		g.write("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n")
		return nil
	}
}

func (g *fakeGuest) expect(want ...string) {
	g.t.Helper()
	got, err := g.ensure()
	if err != nil {
		g.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		g.t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestInstall(t *testing.T) {
	const start, keys = "/usr/sbin/sshd", "/usr/bin/ssh-keygen -A"
	for manager, commands := range map[string][]string{
		"apt-get": {
			"dpkg --configure -a", "/usr/bin/apt-get update",
			"/usr/bin/apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold openssh-server",
			"/usr/bin/apt-get clean",
		},
		"apk":      {"/usr/bin/apk add --no-cache openssh-server openssh-sftp-server openssh-keygen"},
		"dnf":      {"/usr/bin/dnf install -y --setopt=install_weak_deps=False openssh-server"},
		"microdnf": {"/usr/bin/microdnf install -y --setopt=install_weak_deps=0 openssh-server"},
		"yum":      {"/usr/bin/yum install -y openssh-server"},
		"zypper":   {"/usr/bin/zypper --non-interactive install --no-recommends openssh"},
		"pacman":   {"/usr/bin/pacman -Sy --noconfirm --needed openssh"},
	} {
		t.Run(manager, func(t *testing.T) {
			g := newFakeGuest(t, nil)
			g.installs(manager)
			g.expect(append(commands, keys, start)...)
			want := header + options
			if diff := cmp.Diff(want, g.read(dropIn)); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			for _, line := range []string{"banger-openssh: 10%\n", "banger-openssh: 100%\n", "banger-openssh: Unpacking openssh-server\n", "banger-openssh: the OpenSSH server runs\n"} {
				if !strings.Contains(g.console.String(), line) {
					t.Errorf("%q is not on the console:\n%s", line, g.console.String())
				}
			}
			if log := g.read(logFile); !strings.Contains(log, "\nUnpacking openssh-server\n") {
				t.Errorf("the log has\n%s", log)
			}
			// The same boot, with another worker.
			g.expect()
			// The next boot.
			g.write(bootID, "boot-2\n")
			g.expect(start)
		})
	}
}

func TestServerIsThere(t *testing.T) {
	g := newFakeGuest(t, map[string]string{
		"/usr/sbin/sshd": program, "/usr/bin/ssh-keygen": program, "/etc/ssh/ssh_host_rsa_key": "k", "/usr/bin/apk": program,
		"/etc/ssh/sshd_config": "PermitRootLogin no\n", "/etc/shadow": "root:!:1::::::\nann:!:1::::::\n",
	})
	if err := os.Chmod(filepath.Join(g.Root, "etc/shadow"), 0o640); err != nil {
		t.Fatal(err)
	}
	g.expect("/usr/sbin/sshd")
	if got, want := g.read(mainConfig), header+options+"PermitRootLogin no\n"; got != want {
		t.Errorf("the configuration is %q", got)
	}
	if got, want := g.read("/etc/shadow"), "root:*:1::::::\nann:!:1::::::\n"; got != want {
		t.Errorf("shadow is %q", got)
	}
	if info, err := os.Stat(filepath.Join(g.Root, "etc/shadow")); err != nil || info.Mode() != 0o640 {
		t.Errorf("shadow has another mode (%v)", err)
	}
	// A try that is made again changes nothing.
	if err := os.Remove(filepath.Join(g.Root, marker)); err != nil {
		t.Fatal(err)
	}
	g.expect()
	if got := g.read(mainConfig); strings.Count(got, "StrictModes") != 1 {
		t.Errorf("the configuration is %q", got)
	}
}

func TestInitSystemsStartIt(t *testing.T) {
	files := map[string]string{"/usr/sbin/sshd": program, "/usr/bin/ssh-keygen": program, "/usr/lib/systemd/system/ssh.service": "", "/run/openrc/softlevel": "default"}
	for systemd, want := range map[bool][]string{
		true:  {"systemctl enable ssh.service", "systemctl reset-failed ssh.service", "systemctl restart ssh.service"},
		false: {"rc-update add sshd default", "rc-service sshd restart"},
	} {
		g := newFakeGuest(t, files)
		g.Systemd = systemd
		g.expect(append([]string{"/usr/bin/ssh-keygen -A"}, want...)...)
		g.expect() // it is theirs from now on
		// An image made of the VM has no keys.
		if err := os.Remove(filepath.Join(g.Root, "etc/ssh/ssh_host_rsa_key")); err != nil {
			t.Fatal(err)
		}
		g.expect(append([]string{"/usr/bin/ssh-keygen -A"}, want...)...)
	}
}

func TestFailedTries(t *testing.T) {
	t.Run("no shell", func(t *testing.T) {
		g := newFakeGuest(t, nil)
		if err := os.Remove(filepath.Join(g.Root, "bin/sh")); err != nil {
			t.Fatal(err)
		}
		g.fails("/bin/sh")
	})
	t.Run("no manager", func(t *testing.T) { newFakeGuest(t, nil).fails("no package manager") })
	t.Run("no unit", func(t *testing.T) {
		g := newFakeGuest(t, map[string]string{"/usr/sbin/sshd": program, "/etc/ssh/ssh_host_rsa_key": "k"})
		g.Systemd = true
		g.fails("no systemd unit")
	})
	t.Run("no keygen", func(t *testing.T) {
		newFakeGuest(t, map[string]string{"/usr/sbin/sshd": program}).fails("ssh-keygen")
	})
	t.Run("manager without effect", func(t *testing.T) {
		newFakeGuest(t, map[string]string{"/sbin/apk": program}).fails("no sshd")
	})
	t.Run("network", func(t *testing.T) {
		g := newFakeGuest(t, nil)
		g.installs("apk")
		works := g.effects["apk"]
		g.effects["apk"] = func(w io.Writer) error {
			_, _ = io.WriteString(w, "temporary error (try again later)\n")
			return errors.New("exit status 1")
		}
		g.fails("exit status 1")
		if !strings.Contains(g.console.String(), "banger-openssh: temporary error (try again later)\n") {
			t.Errorf("the console has\n%s", g.console.String())
		}
		// A half of the package stays; the next try finishes it.
		g.write("/usr/sbin/sshd", program)
		g.effects["apk"] = works
		g.expect("/usr/bin/apk add --no-cache openssh-server openssh-sftp-server openssh-keygen", "/usr/bin/ssh-keygen -A", "/usr/sbin/sshd")
	})
}

// fails makes a try that must fail with such an error, in one line of the
// console, and be made again at the next boot.
func (g *fakeGuest) fails(want string) {
	g.t.Helper()
	_, err := g.ensure()
	if err == nil || !strings.Contains(err.Error(), want) {
		g.t.Errorf("the error is %v", err)
	}
	lines := strings.Split(strings.TrimSpace(g.console.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, want) || !strings.Contains(last, "banger's own SSH works") {
		g.t.Errorf("the console ends with %q", last)
	}
	if g.exists(marker) {
		g.t.Error("it counts as done")
	}
}

func TestTimeLimit(t *testing.T) {
	g := newFakeGuest(t, nil)
	g.installs("apk")
	g.Run = func(ctx context.Context, _, _ []string, _ io.Writer) error {
		<-ctx.Done()
		return errors.New("signal: killed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if err := g.Ensure(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestIncludesDropIns(t *testing.T) {
	for config, want := range map[string]bool{
		"Include /etc/ssh/sshd_config.d/*.conf\n":             true,
		"  include \"/etc/ssh/sshd_config.d/*.conf\"\n":       true,
		"Include sshd_config.d/*.conf\n":                      true,
		"Include /etc/x /etc/ssh/sshd_config.d/*\n":           true,
		"#Include /etc/ssh/sshd_config.d/*.conf\n":            false,
		"Include /etc/crypto.conf\n":                          false,
		"Match User x\nInclude /etc/ssh/sshd_config.d/*.conf": false,
		"": false,
	} {
		if got := includesDropIns(config); got != want {
			t.Errorf("%q: %v", config, got)
		}
	}
}
