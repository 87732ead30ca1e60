//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/network"
	"banger/internal/vmm/qemu"
)

// What bangerd may take more than before all: while guests attack it, and once
// they have gone. Go gives memory back to the host when it likes.
const (
	soakPeak       = 256 << 20
	soakMemory     = 64 << 20
	soakGoroutines = 10
	soakFiles      = 10
)

// soakPrepare installs a compiler: a small one, for emulated guests are slow.
const soakPrepare = `
apt-get -qq -o Acquire::Languages=none update
DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends tcc libc6-dev >/dev/null`

// soakBuild compiles and runs a program of some hundred functions, and looks a
// name up.
const soakBuild = `
mkdir -p /root/build; cd /root/build; rm -f *.o sum
for part in a b c; do
	perl -e 'my $p = shift; print "int ${p}_$_(int x) { for (int i = 0; i < x; i++) x ^= i * $_; return x & 1; }\n" for 1 .. 150;
		print "int $p(int x) {\n"; print "x += ${p}_$_(x);\n" for 1 .. 150; print "return x; }\n"' $part >$part.c
	tcc -c $part.c
done
echo '#include <stdio.h>
int a(int), b(int), c(int);
int main(void) { return puts(a(1) >= 0 && b(1) >= 0 && c(1) >= 0 ? "sum 1" : "sum 0") < 0; }' >main.c
tcc -o sum main.c a.o b.o c.o
./sum
getent ahostsv4 soak-good.banger >/dev/null || echo 'its own name has no address'
`

// soakConsole floods the console and the kernel's log, with what a terminal
// would obey.
const soakConsole = `
while :; do
	printf '\033]52;c;ZXZpbA==\a\033[2J\033[31m\342\200\256\r' >/dev/ttyS0
	head -c 256K /dev/urandom | base64 >/dev/ttyS0
	echo "<0>BUG: unable to handle evil $(head -c 600 /dev/urandom | base64 -w 0)" >/dev/kmsg || true
done`

// soakThief claims the addresses of another VM, and of the gateway, for ever.
const soakThief = `
link=$1 mac=$2 victim=$3 gateway=$4
ip addr add $victim/24 dev $link || true
while :; do
	/root/poser claim $link $mac $victim
	/root/poser claim $link $mac $gateway
done`

// TestSoak: guests do all that may hurt, at once and for long, beside a VM in
// which a build goes on. BANGER_SOAK says for how long (make soak).
func TestSoak(t *testing.T) {
	value := os.Getenv("BANGER_SOAK")
	if value == "" {
		t.Skip("SKIPPED: it takes long; make soak runs it")
	}
	long, err := time.ParseDuration(value)
	if err != nil {
		t.Fatal(err)
	}
	once(t, func(t *testing.T, h *host) {
		s := &soak{t: t, h: h, start: time.Now()}
		h.create(t, "soak-good")
		h.must(t, "vm", "exec", "soak-good", "--", "sh", "-euc", soakPrepare)
		s.build()
		before := s.figures()
		s.note("before all: %s", describeProcess(before))

		s.attack()
		s.start = time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var churn sync.WaitGroup
		churn.Go(func() { s.churn(ctx) })
		s.beside(long)
		stop()
		churn.Wait()
		most := s.most.MemoryBytes - before.MemoryBytes
		if most > soakPeak {
			t.Errorf("bangerd took %d MiB more at most", most>>20)
		}
		for _, name := range soakAttackers {
			h.must(t, "vm", "delete", "--force", name)
		}
		s.build()
		var after api.Process
		h.eventually(t, func() bool {
			after = s.figures()
			return after.Goroutines <= before.Goroutines+soakGoroutines && after.OpenFiles <= before.OpenFiles+soakFiles &&
				after.MemoryBytes <= before.MemoryBytes+soakMemory
		})
		s.note("%d builds, %d calls cut off; before %s; at most %s; after %s", s.builds, s.cut,
			describeProcess(before), describeProcess(s.most), describeProcess(after))
	})
}

var soakAttackers = []string{"soak-net", "soak-serial", "soak-console"}

// soak is one run.
type soak struct {
	t     *testing.T
	h     *host
	start time.Time

	builds int
	slow   time.Duration // the longest build
	cut    int           // calls of churn
	most   api.Process
}

// note prints a line of the run.
func (s *soak) note(format string, args ...any) {
	s.t.Helper()
	s.t.Logf("soak %6s: %s", time.Since(s.start).Round(time.Second), fmt.Sprintf(format, args...))
}

func describeProcess(p api.Process) string {
	return fmt.Sprintf("%d MiB, %d goroutines, %d files", p.MemoryBytes>>20, p.Goroutines, p.OpenFiles)
}

// quietly runs a banger command without a line in the log.
func (s *soak) quietly(limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	out, err := s.h.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// figures asks bangerd what it takes, and keeps the most of each.
func (s *soak) figures() api.Process {
	s.t.Helper()
	out, err := s.quietly(time.Minute, "daemon", "status", "--json")
	var status struct{ Process *api.Process }
	if err == nil {
		err = json.Unmarshal([]byte(out), &status)
	}
	if err != nil || status.Process == nil {
		s.t.Fatalf("daemon status: %v\n%s", err, out)
	}
	p := *status.Process
	s.most.MemoryBytes = max(s.most.MemoryBytes, p.MemoryBytes)
	s.most.Goroutines = max(s.most.Goroutines, p.Goroutines)
	s.most.OpenFiles = max(s.most.OpenFiles, p.OpenFiles)
	return p
}

// build builds in the good VM.
func (s *soak) build() {
	s.t.Helper()
	begun := time.Now()
	if out, err := s.quietly(commandTimeout, "vm", "exec", "soak-good", "--", "sh", "-euc", soakBuild); err != nil || out != "sum 1\n" {
		s.t.Fatalf("after %d builds one failed: %v\n%s", s.builds, err, out)
	}
	s.builds++
	s.slow = max(s.slow, time.Since(begun))
}

// beside builds, lists and reports while the others attack.
func (s *soak) beside(long time.Duration) {
	s.t.Helper()
	next := s.start
	for time.Since(s.start) < long {
		s.build()
		p := s.figures()
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(time.Minute)
		begun := time.Now()
		if out, err := s.quietly(time.Minute, "vm", "list"); err != nil {
			s.t.Errorf("vm list: %v\n%s", err, out)
		}
		listed := time.Since(begun)
		s.note("%s; log %d KiB; vm list %d ms; %d builds, the longest %s; %s", describeProcess(p), s.h.daemonLogSize(s.t)>>10,
			listed.Milliseconds(), s.builds, s.slow.Round(time.Second), s.attackers())
	}
}

// attackers says what those do. One that its own attack has ended is started
// again.
func (s *soak) attackers() string {
	s.t.Helper()
	var words []string
	for _, name := range soakAttackers {
		vm := s.h.vm(s.t, name)
		if vm.State == api.StateStopped {
			s.note("%s has ended (%s) and is started again", name, vm.Reason)
			s.h.must(s.t, "vm", "start", name)
			s.unleash(name)
		}
		words = append(words, fmt.Sprintf("%s %s, %d packets", name, vm.State, s.received(vm)))
	}
	return strings.Join(words, "; ")
}

// received is how many packets of a VM the host has got.
func (s *soak) received(vm api.VM) int64 {
	argv := append(slices.Clone(s.h.enterNetwork(s.t)), "ip", "-s", "-j", "link", "show", "dev", network.TapName(vm.ID))
	out, err := exec.CommandContext(s.t.Context(), argv[0], argv[1:]...).Output()
	var links []struct {
		Stats64 struct{ Rx struct{ Packets int64 } }
	}
	if err != nil || json.Unmarshal(out, &links) != nil || len(links) != 1 {
		return -1
	}
	return links[0].Stats64.Rx.Packets
}

// attack starts the attackers.
func (s *soak) attack() {
	s.t.Helper()
	for _, name := range soakAttackers {
		s.h.create(s.t, name, "--memory", "512M", "--vcpus", "1")
		s.unleash(name)
	}
}

// unleash lets one of them begin.
func (s *soak) unleash(name string) {
	s.t.Helper()
	h, t := s.h, s.t
	run := func(argv ...string) {
		h.must(t, append([]string{"vm", "exec", name, "--", "systemd-run", "--quiet"}, argv...)...)
	}
	switch name {
	case "soak-net":
		h.copyInto(t, name, h.buildPoser(t), "/root/poser")
		route := strings.Fields(h.must(t, "vm", "exec", name, "--", "ip", "-4", "route", "show", "default"))
		if len(route) < 5 {
			t.Fatalf("the guest's default route is %q", route)
		}
		gateway, link, victim := route[2], route[4], h.vm(t, "soak-good")
		run("perl", "-e", hostileDNS, gateway, "flood")
		run("perl", "-e", hostileDNS, gateway, "flood")
		run("sh", "-c", soakThief, "sh", link, network.MAC(netip.MustParseAddr(victim.IP)), victim.IP, gateway)
	case "soak-serial":
		if driver := h.vm(t, name).Driver; driver != qemu.Name {
			run("sh", "-c", soakConsole) // there is no serial port to the agent
			return
		}
		h.startEvilGuest(t, name, 24*60*60)
	case "soak-console":
		run("sh", "-c", soakConsole)
	}
}

// churn makes connections to guests, most of which it cuts off.
func (s *soak) churn(ctx context.Context) {
	calls := [][]string{
		{"vm", "exec", "soak-console", "--", "sh", "-c", `while :; do printf '\033]0;evil\a\033[2J'; printf '\033[8m' >&2; done`},
		{"vm", "exec", "soak-console", "--", "sh", "-c", "exec sleep 60"},
		{"vm", "exec", "soak-serial", "--", "true"},
		{"vm", "logs", "soak-console"},
		{"vm", "logs", "--follow", "soak-serial"},
	}
	for i := 0; ctx.Err() == nil; i++ {
		call, cancel := context.WithTimeout(ctx, time.Duration(i%7+1)*time.Second/2)
		_ = s.h.command(call, calls[i%len(calls)]...).Run() // discards what it says
		if call.Err() != nil {
			s.cut++
		}
		cancel()
	}
}
