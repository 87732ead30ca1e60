//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostileDNS sends the gateway what ends or fills a naive server: headers that
// promise a question, on UDP and TCP, and then, if there is a second argument,
// questions as fast as it can for ever.
const hostileDNS = `
use strict; use IO::Socket::INET;
my ($gateway, $flood) = @ARGV;
my $bad = "\xab\xcd\1\0\0\1" . "\0" x 6;
my $name = join("", map { chr(length) . $_ } qw(9 0 16 172 in-addr arpa)) . "\0";
my $ptr = "\xab\xcd\1\0\0\1" . "\0" x 6 . $name . "\0\x0c\0\1";
my $far = "\xab\xcd\1\0\0\1" . "\0" x 6 . "\5flood\7invalid\0" . "\0\1\0\1";
my $udp = IO::Socket::INET->new(PeerAddr => $gateway, PeerPort => 53, Proto => "udp") or die "udp: $@";
sub tcp {
	my $tcp = IO::Socket::INET->new(PeerAddr => $gateway, PeerPort => 53, Proto => "tcp", Timeout => 5) or return;
	syswrite($tcp, pack("n", length) . $_) for @_;
	return $tcp;
}
send($udp, $bad, 0) or die "send: $!";
my $tcp = tcp($bad) or die "tcp: $@";
my $reply;
defined recv($udp, $reply, 512, 0) and length($reply) == 12 and (ord(substr($reply, 3)) & 15) == 1 or die "no FORMERR";
print "refused\n";
exit unless $flood;
$SIG{CHLD} = "IGNORE";
if (!fork) { # connections, left open
	my @open;
	while (1) { push @open, tcp($ptr, $bad); shift @open if @open > 500 }
}
while (1) {
	send($udp, $ptr, 0) for 1 .. 50;
	send($udp, $far, 0); send($udp, $bad, 0);
}
`

// TestHostileDNS has a guest attack DNS on the bridge: bangerd goes on, at its
// size and pace, and the other guests' names are answered.
func TestHostileDNS(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "attacker")
		h.create(t, "neighbour")
		pid := h.daemonPID(t)
		gateway := strings.TrimSpace(h.must(t, "vm", "exec", "attacker", "--", "sh", "-c", `ip route show default | cut -d" " -f3`))
		if got := h.must(t, "vm", "exec", "attacker", "--", "perl", "-e", hostileDNS, gateway); got != "refused\n" {
			t.Errorf("the attacker says %q", got)
		}
		before := residentKiB(t, pid)
		quiet := h.listTimes(t)

		h.must(t, "vm", "exec", "attacker", "--", "sh", "-c",
			`setsid perl -e "$1" "$2" flood >/dev/null 2>&1 </dev/null & setsid perl -e "$1" "$2" flood >/dev/null 2>&1 </dev/null &`,
			"sh", hostileDNS, gateway)
		sent := h.packetsFrom(t, "attacker")
		h.eventually(t, func() bool { return h.packetsFrom(t, "attacker") > sent+1000 })
		flooded := h.listTimes(t)
		neighbour := h.vm(t, "neighbour")
		for range 5 {
			// getent waits longer than DNS servers should need, and asks again.
			got := h.must(t, "vm", "exec", "neighbour", "--", "getent", "ahostsv4", "neighbour.banger")
			if !strings.HasPrefix(got, neighbour.IP+" ") {
				t.Errorf("the neighbour's name: %q, want %s", got, neighbour.IP)
			}
		}
		after, now := residentKiB(t, pid), h.packetsFrom(t, "attacker")
		t.Logf("vm list: %v quiet, %v flooded; bangerd: %d KiB before, %d KiB in the flood; %d packets", quiet, flooded, before, after, now-sent)
		if limit := before + 64<<10; after > limit {
			t.Errorf("bangerd has grown from %d to %d KiB", before, after)
		}
		if got := h.daemonPID(t); got != pid {
			t.Errorf("bangerd was %d and is %d", pid, got)
		}
	})
}

// listTimes runs vm list some times and says how long that took, the command
// line's start included: the quicker half, 9 of 10, and the longest.
func (h *host) listTimes(t *testing.T) string {
	t.Helper()
	var took []time.Duration
	for range 20 {
		start := time.Now()
		h.must(t, "vm", "list")
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	at := func(i int) time.Duration { return took[i].Round(time.Millisecond) }
	return fmt.Sprintf("%v/%v/%v", at(len(took)/2), at(len(took)*9/10), at(len(took)-1))
}

// packetsFrom is how many packets a guest has sent.
func (h *host) packetsFrom(t testing.TB, vm string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(h.must(t, "vm", "exec", vm, "--", "sh", "-c", "cat /sys/class/net/e*/statistics/tx_packets")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s*(\d+) kB$`)

// residentKiB is the memory of a process.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	match := residentLine.FindSubmatch(status)
	if match == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
