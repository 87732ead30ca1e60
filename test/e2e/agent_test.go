//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// guestSays runs a shell script in a VM and returns what it writes.
func (h *host) guestSays(t testing.TB, name, script string) string {
	t.Helper()
	return strings.TrimSpace(h.must(t, "vm", "exec", name, "--", "sh", "-c", script))
}

// agentPID is the process of one of the agent's parts in a VM.
func (h *host) agentPID(t testing.TB, name, part string) string {
	t.Helper()
	pid := h.guestSays(t, name, "pgrep -f '^@banger-agent "+part+"$'")
	if len(strings.Fields(pid)) != 1 {
		t.Fatalf("the agent's %s is process %q", part, pid)
	}
	return pid
}

// TestSystemdIsHeard: systemd, PID 1, never waits for somebody to read what it
// says, be it by a slow unit or in any number of messages.
func TestSystemdIsHeard(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "heard")
		// The kernel keeps ten messages that nobody has read.
		h.must(t, "vm", "exec", "heard", "--", "sh", "-c", `
			for i in $(seq 40); do
				NOTIFY_SOCKET=@banger/notify timeout 60 systemd-notify --no-block STATUS=$i || exit 1
			done`)
		h.must(t, "vm", "exec", "heard", "--", "systemd-run", "-q", "-p", "Type=oneshot", "--wait", "sleep", "30")
		if got := h.guestSays(t, "heard", "timeout 120 systemctl is-system-running"); got != "running" {
			t.Errorf("systemd is %q", got)
		}
	})
}

// TestNoDescriptorOfTheAgent: nothing that the agent starts has one of its
// files open, in whatever way it is started.
func TestNoDescriptorOfTheAgent(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "files")
		const others = `for f in /proc/self/fd/*; do readlink $f; done | grep -E 'memfd|socket|cgroup|virtio|vport|banger'`
		for way, args := range map[string][]string{
			"exec":     {"vm", "exec", "files", "--", "sh", "-c", others},
			"terminal": {"vm", "exec", "-t", "files", "--", "sh", "-c", others},
			"user":     {"vm", "exec", "-u", "nobody", "files", "--", "sh", "-c", others},
			"ssh":      {"vm", "ssh", "files", others},
		} {
			if r := h.run(t, args...); r.exit != 1 || r.stdout != "" {
				t.Errorf("%s: exit %d, open files\n%s%s", way, r.exit, r.stdout, r.stderr)
			}
		}
		// What is marked so is closed in whatever they start, the sftp server and
		// the worker as well.
		for _, part := range []string{"supervise", "work"} {
			pid := h.agentPID(t, "files", part)
			kept := h.guestSays(t, "files", `cd /proc/`+pid+`/fdinfo && for fd in *; do
				[ $fd -lt 3 ] && continue
				flags=$(sed -n 's/^flags:[[:space:]]*//p' $fd)
				[ $((flags & 02000000)) -ne 0 ] || echo $fd $flags $(readlink ../fd/$fd)
			done`)
			if kept != "" {
				t.Errorf("%s has files that its children inherit:\n%s", part, kept)
			}
		}
		if got := h.guestSays(t, "files", `readlink /proc/1/fd/* | grep -E 'memfd|vport|banger' || true`); got != "" {
			t.Errorf("the init system has the agent's\n%s", got)
		}
	})
}

// TestAgentListensNowhere: no socket of the agent's has an address of the guest's
// network.
func TestAgentListensNowhere(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "quiet")
		for _, part := range []string{"supervise", "work"} {
			pid := h.agentPID(t, "quiet", part)
			open := h.guestSays(t, "quiet", `cd /proc/`+pid+` && for socket in $(readlink fd/* | sed -n 's/^socket:.\(.*\).$/\1/p'); do
				cat net/tcp* net/udp* net/raw* | awk -v socket=$socket '$10 == socket'
			done`)
			if open != "" {
				t.Errorf("%s has sockets of the network:\n%s", part, open)
			}
		}
	})
}

// TestOutOfMemory: a command that takes all memory is ended, and nothing else.
func TestOutOfMemory(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "hog", "--memory", "512M")
		supervisor, worker := h.agentPID(t, "hog", "supervise"), h.agentPID(t, "hog", "work")
		for range 2 {
			r := h.run(t, "vm", "exec", "hog", "--", "sh", "-c", "tail /dev/zero; echo status $?")
			if r.exit != 0 || r.stdout != "status 137\n" {
				t.Errorf("exit %d: %s%s", r.exit, r.stdout, r.stderr)
			}
		}
		if r := h.run(t, "vm", "exec", "hog", "--", "tail", "/dev/zero"); r.exit != 137 {
			t.Errorf("exit %d: %s", r.exit, r.stderr)
		}
		if s, w := h.agentPID(t, "hog", "supervise"), h.agentPID(t, "hog", "work"); s != supervisor || w != worker {
			t.Errorf("the agent was %s and %s, and is %s and %s", supervisor, worker, s, w)
		}
		if got := h.guestSays(t, "hog", "systemctl is-system-running; systemctl is-active init.scope"); got != "running\nactive" {
			t.Errorf("systemd says %q", got)
		}
		own := h.guestSays(t, "hog", "cat /proc/self/oom_score_adj /proc/self/cgroup")
		if !strings.HasPrefix(own, "0\n0::/banger/commands/") {
			t.Errorf("a command's protection and group: %q", own)
		}
		if got := h.guestSays(t, "hog", "ls -d /sys/fs/cgroup/banger/commands/*/ | wc -l"); got != "1" {
			t.Errorf("%s control groups of commands are left", got)
		}
	})
}

// TestWorkerEnds: the VM survives the end of the agent's worker; who was logged
// in is told.
func TestWorkerEnds(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "worker")
		worker := h.agentPID(t, "worker", "work")
		r := h.run(t, "vm", "exec", "worker", "--", "sh", "-c", "kill -9 "+worker+"; sleep 600")
		if r.exit != 125 || !strings.Contains(r.stderr, "lost the connection") {
			t.Errorf("exit %d: %s", r.exit, r.stderr)
		}
		if again := h.agentPID(t, "worker", "work"); again == worker {
			t.Error("the worker didn't end")
		}
		if got := h.guestSays(t, "worker", "systemctl is-system-running"); got != "running" {
			t.Errorf("systemd says %q", got)
		}
		h.must(t, "vm", "stop", "worker")
	})
}
