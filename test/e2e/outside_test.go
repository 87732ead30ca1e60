//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/paths"
)

// TestPlainUsersWayOut: what a plain user's VM reaches by way of pasta, when the
// host's addresses change and when pasta dies. The user works in a network
// namespace that stands for the host's, with one more that stands for the
// internet.
func TestPlainUsersWayOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a network namespace that stands for the host's needs root")
	}
	h := *modes[1]
	h.checkClean(t)
	h.must(t, "daemon", "stop")
	poser := h.buildPoser(t)
	h.makeHostAndInternet(t, poser)
	t.Cleanup(func() { h.must(t, "daemon", "stop") }) // it runs in a namespace that goes
	h.create(t, "web")
	h.copyInto(t, "web", poser, "/root/poser")
	reaches := func(ip, who string) bool {
		t.Helper()
		r := h.run(t, "vm", "exec", "web", "--", "/root/poser", "dial", ip+":8080")
		if r.exit == 0 && strings.TrimSpace(r.stdout) != who {
			t.Errorf("at %s is %q, want %q", ip, r.stdout, who)
		}
		return r.exit == 0
	}
	const own, internet, later = "198.51.100.1", "198.51.100.2", "10.77.0.1"

	h.eventually(t, func() bool { return reaches(internet, "internet") })
	if reaches(own, "host") {
		t.Error("the VM reaches the host")
	}
	run(t, "ip", "-netns", h.netns, "address", "add", later+"/24", "dev", "lo")
	h.eventually(t, func() bool { return !reaches(later, "host") })
	for range 3 {
		if reaches(later, "host") {
			t.Error("the VM reaches an address that the host got later")
		}
	}

	pid := h.pasta(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually(t, func() bool { return reaches(internet, "internet") })
	if h.pasta(t) == pid {
		t.Error("pasta wasn't killed")
	}
	for _, ip := range []string{own, later} {
		if reaches(ip, "host") {
			t.Errorf("the VM reaches %s after pasta's death", ip)
		}
	}
	log, err := os.ReadFile(paths.Layout{State: filepath.Join(h.home, "state")}.DaemonLog())
	if err != nil || !strings.Contains(string(log), fmt.Sprintf("it is started again\" role=keeper pid=%d", pid)) {
		t.Errorf("the log doesn't tell of pasta's death: %v", err)
	}
	if got := h.must(t, "daemon", "status"); strings.Contains(got, "problem") {
		t.Errorf("daemon status: %s", got)
	}
}

// makeHostAndInternet moves h to a network namespace with a neighbour. A server
// answers on all addresses of each.
func (h *host) makeHostAndInternet(t *testing.T, server string) {
	t.Helper()
	h.netns = fmt.Sprintf("banger-e2e-host-%d", os.Getpid())
	internet := fmt.Sprintf("banger-e2e-internet-%d", os.Getpid())
	for ns, who := range map[string]string{h.netns: "host", internet: "internet"} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
		run(t, "ip", "-netns", ns, "link", "set", "lo", "up")
		cmd := exec.Command("nsenter", "--net=/run/netns/"+ns, "--", server, "serve", ":8080", who)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			var exit *exec.ExitError
			if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); err != nil && !errors.As(err, &exit) {
				t.Error(err)
			}
		})
	}
	run(t, "ip", "-netns", h.netns, "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", internet)
	run(t, "ip", "-netns", internet, "address", "add", "198.51.100.2/24", "dev", "eth0")
	run(t, "ip", "-netns", internet, "link", "set", "eth0", "up")
	run(t, "ip", "-netns", h.netns, "address", "add", "198.51.100.1/24", "dev", "lan")
	run(t, "ip", "-netns", h.netns, "link", "set", "lan", "up")
	run(t, "ip", "-netns", h.netns, "route", "add", "default", "via", "198.51.100.2")
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// pasta returns the pid of the plain user's pasta.
func (h *host) pasta(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(paths.Layout{Runtime: filepath.Join(h.home, "run")}.NamespaceHolder())
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ Pasta struct{ PID int } }
	if err := json.Unmarshal(data, &state); err != nil || state.Pasta.PID == 0 {
		t.Fatalf("read pasta's pid from %q: %v", data, err)
	}
	return state.Pasta.PID
}
