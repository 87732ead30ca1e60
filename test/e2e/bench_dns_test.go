//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/paths"
)

// askNames has the gateway tell the address of a name, again and again, and
// prints how many milliseconds each time took.
const askNames = `
use strict; use IO::Socket::INET;
sub now { my $t = "\0" x 16; syscall(228, 1, $t); my ($s, $ns) = unpack("q2", $t); $s * 1e3 + $ns / 1e6 } # clock_gettime
my ($gateway, $name, $times) = @ARGV;
my $query = "\xab\xcd\1\0\0\1" . "\0" x 6 . join("", map { chr(length) . $_ } $name, "banger") . "\0\0\1\0\1";
my $udp = IO::Socket::INET->new(PeerAddr => $gateway, PeerPort => 53, Proto => "udp") or die "udp: $@";
for (1 .. $times) {
	my ($reply, $start) = ("", now());
	send($udp, $query, 0) or die "send: $!";
	my $readable = ""; vec($readable, fileno($udp), 1) = 1;
	select($readable, undef, undef, 5) and recv($udp, $reply, 512, 0);
	length($reply) > 12 or die "no answer";
	print now() - $start, "\n";
}
`

// BenchmarkDNSFlood is what others notice of a guest that floods DNS from inside
// a VM: the call behind vm list, the whole command, and another guest's queries.
func BenchmarkDNSFlood(b *testing.B) {
	h := modes[0]
	h.create(b, "attacker")
	h.create(b, "neighbour")
	gateway := strings.TrimSpace(h.must(b, "vm", "exec", "attacker", "--", "sh", "-c", `ip route show default | cut -d" " -f3`))
	calls := h.client(b)
	measure := func(b *testing.B) {
		var list, command, names []float64
		began, sent := time.Now(), h.packetsFrom(b, "attacker")
		for b.Loop() {
			for range 100 {
				list = append(list, timed(b, func() error {
					_, err := client.Call(b.Context(), calls, api.ListVMs, api.None{})
					return err
				}))
				time.Sleep(10 * time.Millisecond) // the pace, so that the flood goes on
			}
			for range 20 {
				command = append(command, timed(b, func() error { return h.command(b.Context(), "vm", "list").Run() }))
			}
			for _, ms := range strings.Fields(h.must(b, "vm", "exec", "neighbour", "--", "perl", "-e", askNames, gateway, "neighbour", "100")) {
				n, err := strconv.ParseFloat(ms, 64)
				if err != nil {
					b.Fatal(err)
				}
				names = append(names, n)
			}
		}
		packets := float64(h.packetsFrom(b, "attacker") - sent)
		for name, ms := range map[string][]float64{"list": list, "command": command, "names": names} {
			slices.Sort(ms)
			b.ReportMetric(ms[len(ms)/2], name+"-median-ms")
			b.ReportMetric(ms[len(ms)*95/100], name+"-95%-ms")
			b.ReportMetric(ms[len(ms)-1], name+"-max-ms")
		}
		b.ReportMetric(packets/time.Since(began).Seconds(), "packets/s")
		b.ReportMetric(0, "ns/op") // meaningless here
	}
	b.Run("quiet", measure)
	h.must(b, "vm", "exec", "attacker", "--", "sh", "-c",
		`for i in 1 2; do setsid perl -e "$1" "$2" flood >/dev/null 2>&1 </dev/null & done`, "sh", hostileDNS, gateway)
	sent := h.packetsFrom(b, "attacker")
	for h.packetsFrom(b, "attacker") < sent+1000 {
		time.Sleep(100 * time.Millisecond)
	}
	b.Run("flooded", measure)
}

// client calls this host's bangerd, which must run.
func (h *host) client(b *testing.B) *client.Client {
	b.Helper()
	var status struct{ Version string }
	if err := json.Unmarshal([]byte(h.must(b, "daemon", "status", "--json")), &status); err != nil {
		b.Fatal(err)
	}
	c := client.New(client.Config{Layout: paths.Layout{Runtime: filepath.Join(h.home, "run")}, Version: status.Version})
	b.Cleanup(c.Close)
	return c
}

// timed returns how many milliseconds f takes.
func timed(b *testing.B, f func() error) float64 {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return float64(time.Since(start).Microseconds()) / 1000
}
