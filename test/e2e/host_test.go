//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
)

// commandTimeout bounds every command of a test; emulated guests on a busy
// machine take minutes to boot.
const commandTimeout = 10 * time.Minute

// testUser owns the files of the plain-user mode.
const testUser = "banger-e2e"

// host is one way to run banger.
type host struct {
	name    string
	bin     string // directory of the programs
	home    string // BANGER_HOME; its images and kernels stay for the next run
	scratch string // readable by the mode's user, removed at the end
	netns   string // the network namespace to run in; "" is the test's own
	uid     uint32
	gid     uint32
	undo    []func() error
}

// setUpHosts returns root and plain user for root, and only the latter for a
// plain user. On an error it returns what there is to tear down.
func setUpHosts(bin, cache string) ([]*host, error) {
	if os.Geteuid() != 0 {
		h := &host{name: "user", uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}
		return []*host{h}, h.setUp(bin, cache)
	}
	root := &host{name: "root"}
	if err := root.setUp(bin, cache); err != nil {
		return []*host{root}, err
	}
	if err := root.makeNamespace(); err != nil {
		return []*host{root}, err
	}
	plain := &host{name: "user"}
	if err := plain.makeUser(); err != nil {
		return []*host{root, plain}, err
	}
	return []*host{root, plain}, plain.setUp(bin, cache)
}

func (h *host) setUp(bin, cache string) error {
	h.home = filepath.Join(cache, h.name)
	var err error
	if h.scratch, err = os.MkdirTemp("", "banger-e2e-"); err != nil {
		return err
	}
	h.undo = append(h.undo, func() error { return os.RemoveAll(h.scratch) })
	// The checkout may be out of the user's reach.
	h.bin = filepath.Join(h.scratch, "bin")
	if out, err := exec.Command("cp", "-r", bin, h.bin).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the programs from %s: %w: %s", bin, err, out)
	}
	if err := h.configure(); err != nil {
		return err
	}
	if err := h.forgetStale(); err != nil {
		return err
	}
	// A plain user must reach both from the root directory down.
	for dir := cache; dir != "/" && os.Geteuid() == 0; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o011); err != nil {
			return err
		}
	}
	if h.uid != 0 {
		for _, dir := range []string{h.home, filepath.Join(h.home, "config"), filepath.Join(h.home, "config/config.toml"), h.scratch} {
			if err := os.Chown(dir, int(h.uid), int(h.gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetStale removes the images and kernels that another catalog has made: what
// a recipe says now is what is tested.
func (h *host) forgetStale() error {
	catalog, err := os.ReadFile("../../internal/catalog/catalog.toml")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not in a checkout: whoever brought the tests brought the images
	}
	if err != nil {
		return err
	}
	sum := fmt.Sprintf("%x\n", sha256.Sum256(catalog))
	mark := filepath.Join(h.home, "catalog.sha256")
	if old, err := os.ReadFile(mark); err == nil && string(old) == sum {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(h.home, "share")); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(sum), 0o644)
}

// configure makes the small image the default: it boots faster than the one
// that users get, which has tests of its own.
func (h *host) configure() error {
	dir := filepath.Join(h.home, "config")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.toml"), []byte(baseConfig()), 0o600)
}

// baseConfig is the configuration of every test: BANGER_E2E_CONFIG adds to it,
// say driver = "firecracker" or a longer boot_timeout.
func baseConfig() string {
	return "default_image_name = \"debian-minimal\"\n" + os.Getenv("BANGER_E2E_CONFIG") + "\n"
}

// makeNamespace makes a network namespace with a way out by pasta, so that
// root's bridges and rules are not the machine's.
func (h *host) makeNamespace() error {
	h.netns = fmt.Sprintf("banger-e2e-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", h.netns).CombinedOutput(); err != nil {
		return fmt.Errorf("make a network namespace: %w: %s", err, out)
	}
	h.undo = append(h.undo, func() error { return exec.Command("ip", "netns", "del", h.netns).Run() })
	pidFile := filepath.Join(h.scratch, "pasta.pid")
	cmd := exec.Command("pasta", "--config-net", "--no-map-gw", "--runas", "0:0", "--quiet",
		"-t", "none", "-u", "none", "-T", "none", "-U", "none", "-P", pidFile, "--netns", "/run/netns/"+h.netns)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("start pasta: %w: %s", err, out)
	}
	h.undo = append(h.undo, func() error {
		data, err := os.ReadFile(pidFile)
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGTERM)
	})
	return nil
}

func (h *host) makeUser() error {
	if _, err := user.Lookup(testUser); err != nil {
		if out, err := exec.Command("useradd", "--create-home", testUser).CombinedOutput(); err != nil {
			return fmt.Errorf("make user %s: %w: %s", testUser, err, out)
		}
	}
	u, err := user.Lookup(testUser)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	h.uid, h.gid = uint32(uid), uint32(gid)
	return err
}

func (h *host) tearDown() error {
	errs := []error{h.stopDaemon()} // first: it needs the namespace
	for i := len(h.undo) - 1; i >= 0; i-- {
		errs = append(errs, h.undo[i]())
	}
	return errors.Join(errs...)
}

// stopDaemon removes every VM and ends bangerd, so that nothing of this run is
// left besides images and kernels.
func (h *host) stopDaemon() error {
	if _, err := os.Stat(filepath.Join(h.home, "run", "bangerd.sock")); err != nil {
		return nil //nolint:nilerr // it never ran
	}
	var errs []error
	if out, err := h.command(context.Background(), "vm", "list", "--json").Output(); err == nil {
		var vms []api.VM
		errs = append(errs, json.Unmarshal(out, &vms))
		for _, vm := range vms {
			errs = append(errs, h.command(context.Background(), "vm", "delete", "--force", vm.Name).Run())
		}
	}
	if out, err := h.command(context.Background(), "daemon", "stop").CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("stop bangerd: %w: %s", err, out))
	}
	return errors.Join(errs...)
}

// command returns a banger command that runs as this host's user, in its
// namespace.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	return h.program(ctx, append([]string{filepath.Join(h.bin, "banger")}, args...)...)
}

// program is command for other programs.
func (h *host) program(ctx context.Context, argv ...string) *exec.Cmd {
	other := h.uid != uint32(os.Geteuid())
	if h.netns != "" {
		enter := []string{"nsenter", "--net=/run/netns/" + h.netns, "--"}
		if other { // who may not enter himself
			enter = append(enter, "setpriv", "--reuid", fmt.Sprint(h.uid), "--regid", fmt.Sprint(h.gid), "--clear-groups", "--")
		}
		argv = append(enter, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = h.scratch
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.scratch, "BANGER_HOME=" + h.home, "LC_ALL=C.UTF-8", "TERM=xterm",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org",
	}
	if other && h.netns == "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: h.uid, Gid: h.gid}}
	}
	// bangerd, started by the command, keeps no pipe of ours: but a command
	// that is killed must not be waited for through a grandchild's pipe.
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	exit           int
}

// run runs a banger command to its end.
func (h *host) run(t testing.TB, args ...string) result {
	t.Helper()
	return h.runWithInput(t, "", args...)
}

func (h *host) runWithInput(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	// Not the test's own context: clean-ups run commands too.
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := h.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runReporting(t, cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("banger %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	t.Logf("banger %s: exit %d", strings.Join(args, " "), r.exit)
	return r
}

// reportInterval is how often a test says that its command still runs.
const reportInterval = 30 * time.Second

// runReporting is cmd.Run with a line in the test's log now and then: the first
// command of all builds an image.
func runReporting(t testing.TB, cmd *exec.Cmd) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
			t.Logf("%s: still running", strings.Join(cmd.Args, " "))
		}
	}
}

// must runs a command that has to succeed and returns its stdout.
func (h *host) must(t testing.TB, args ...string) string {
	t.Helper()
	r := h.run(t, args...)
	if r.exit != 0 {
		t.Fatalf("banger %s: exit %d\n%s%s", strings.Join(args, " "), r.exit, r.stdout, r.stderr)
	}
	return r.stdout
}

// vm returns what banger says of a VM.
func (h *host) vm(t testing.TB, name string) api.VM {
	t.Helper()
	var vm api.VM
	if err := json.Unmarshal([]byte(h.must(t, "vm", "show", name, "--json")), &vm); err != nil {
		t.Fatal(err)
	}
	return vm
}

// create makes a running VM that the test's end deletes.
func (h *host) create(t testing.TB, name string, args ...string) {
	t.Helper()
	t.Cleanup(func() { h.run(t, "vm", "delete", "--force", name) })
	h.must(t, append([]string{"vm", "create", "--name", name}, args...)...)
}
