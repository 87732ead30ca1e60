//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dayVariable makes TestDayInTheLife run: "short" is once through the day, which
// takes minutes, "hour" goes on for an hour.
const dayVariable = "BANGER_E2E_DAY"

// day is how much of a day a VM lives through.
type day struct {
	*host
	t         *testing.T
	execs     int
	restarts  int
	suspended time.Duration
	first     map[string]footprint // of the agent's parts
}

// footprint is what a process of the agent's takes.
type footprint struct {
	kib, files int
}

// moreMemory is by how much a part of the agent may grow; Go's heap breathes.
const moreMemory = 24 << 10 // KiB

// TestDayInTheLife: what a developer's VM goes through leaves it as it was: the
// init system answers, commands run, and the agent has neither grown nor kept
// files open. How fast systemd answers is told, not judged, as machines differ.
func TestDayInTheLife(t *testing.T) {
	if os.Getenv(dayVariable) == "" {
		t.Skip("SKIPPED: make day runs it")
	}
	once(t, func(t *testing.T, h *host) {
		d := &day{host: h, t: t, execs: 40, restarts: 1, suspended: 15 * time.Second}
		length := time.Duration(0)
		if os.Getenv(dayVariable) == "hour" {
			d.execs, d.restarts, d.suspended, length = 300, 3, 90*time.Second, time.Hour
		}
		h.create(t, "day", "--image", "debian-bookworm", "--memory", "1G", "--disk", "3G")
		d.well("the first boot")
		copied := h.runWithInput(t, string(busyboxTree(t)), "vm", "exec", "day", "--", "sh", "-c", "mkdir /root/b; cat > /root/b/busybox.tar")
		if copied.exit != 0 {
			t.Fatalf("copy a tar: %s", copied.stderr)
		}
		for began := time.Now(); ; {
			for _, step := range []struct {
				name string
				do   func()
			}{
				{"a package with a slow post-install", d.install},
				{"a docker build and run", d.docker},
				{"a command without end of memory", d.outOfMemory},
				{"a full disk", d.fillDisk},
				{"jumps of the clock", d.jump},
				{fmt.Sprintf("%d commands", d.execs), d.many},
				{fmt.Sprintf("%d restarts", d.restarts), d.restart},
				{fmt.Sprintf("%s of a VMM that stands still", d.suspended), d.suspend},
			} {
				step.do()
				d.well(step.name)
			}
			if time.Since(began) >= length {
				return
			}
		}
	})
}

func (d *day) says(script string) string { d.t.Helper(); return d.guestSays(d.t, "day", script) }

// well checks the VM after a step.
func (d *day) well(step string) {
	d.t.Helper()
	// The guest's own time, without the way to it.
	answer := strings.Fields(d.says(`read began _ </proc/uptime
		state=$(timeout 60 systemctl is-system-running)
		read ended _ </proc/uptime
		echo ${state:-silent} $began $ended`))
	if len(answer) != 3 {
		d.t.Fatalf("after %s: %q", step, answer)
	}
	began, _ := strconv.ParseFloat(answer[1], 64)
	ended, _ := strconv.ParseFloat(answer[2], 64)
	if answer[0] != "running" {
		d.t.Errorf("after %s systemd is %s: %s", step, answer[0], d.says("systemctl --failed --no-legend --plain || true"))
	}
	now := make(map[string]footprint)
	for _, part := range []string{"supervise", "work"} {
		pid := d.agentPID(d.t, "day", part)
		var f footprint
		said := d.says("sed -n 's/^VmRSS:[[:space:]]*\\([0-9]*\\) kB/\\1/p' /proc/" + pid + "/status; ls /proc/" + pid + "/fd | wc -l")
		if _, err := fmt.Sscan(said, &f.kib, &f.files); err != nil {
			d.t.Fatalf("the agent's %s after %s: %q: %v", part, step, said, err)
		}
		now[part] = f
	}
	d.t.Logf("after %s: systemd answers in %.2f s; supervisor %+v, worker %+v", step, ended-began, now["supervise"], now["work"])
	if d.first == nil {
		d.first = now
	}
	for part, f := range now {
		if first := d.first[part]; f.files > first.files+2 || f.kib > first.kib+moreMemory {
			d.t.Errorf("after %s the agent's %s has %d KiB and %d files, at first %d and %d", step, part, f.kib, f.files, first.kib, first.files)
		}
	}
}

// install installs a package whose post-install starts a slow unit.
func (d *day) install() {
	d.says(`set -e; rm -rf /tmp/p; mkdir -p /tmp/p/slow/DEBIAN; cd /tmp/p
		printf 'Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: slow\n' >slow/DEBIAN/control
		printf '#!/bin/sh\nsystemd-run -q -p Type=oneshot --wait sleep 20\n' >slow/DEBIAN/postinst
		chmod 755 slow/DEBIAN/postinst; dpkg-deb --build --root-owner-group slow >/dev/null
		DEBIAN_FRONTEND=noninteractive apt-get install -y ./slow.deb >/dev/null
		apt-get purge -y slow >/dev/null`)
}

func (d *day) docker() {
	got := d.says(`set -e; cd /root/b
		printf 'FROM scratch\nADD busybox.tar /\nRUN ["/bin/touch", "/built"]\n' >Dockerfile
		docker build -q -t day . >/dev/null; docker run --rm day ls /built; docker system prune -af >/dev/null`)
	if got != "/built" {
		d.t.Errorf("docker run: %q", got)
	}
}

func (d *day) outOfMemory() {
	if r := d.run(d.t, "vm", "exec", "day", "--", "tail", "/dev/zero"); r.exit != 137 {
		d.t.Errorf("a command that takes all memory: exit %d: %s", r.exit, r.stderr)
	}
}

func (d *day) fillDisk() {
	d.says("fallocate -l $(df --output=avail -B1 /root | tail -1) /root/full || true; cat /dev/zero >/root/rest 2>/dev/null; df --output=avail /root | tail -1")
	d.well("the disk was filled")
	d.says("rm /root/full /root/rest; echo room >/root/room; sync")
}

func (d *day) jump() {
	for _, to := range []string{"2 hours", "-2 hours"} {
		d.says("date -s @$(date -d '" + to + "' +%s)")
		d.eventually(d.t, func() bool { return d.clockError(d.t, "day").Abs() < time.Second })
	}
}

func (d *day) many() {
	for i := range d.execs {
		if r := d.run(d.t, "vm", "exec", "day", "--", "sh", "-c", "exit 7"); r.exit != 7 {
			d.t.Fatalf("command %d: exit %d: %s", i, r.exit, r.stderr)
		}
	}
}

func (d *day) restart() {
	for range d.restarts {
		began := time.Now()
		d.must(d.t, "vm", "restart", "day")
		d.t.Logf("a restart took %s", time.Since(began).Round(100*time.Millisecond))
	}
}

func (d *day) suspend() {
	thaw := freeze(d.t, d.vm(d.t, "day").PID)
	time.Sleep(d.suspended)
	thaw()
	d.eventually(d.t, func() bool { return d.clockError(d.t, "day").Abs() < time.Second })
}
