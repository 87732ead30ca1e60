//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestHostPort: a VM reaches the port of the host's localhost that it was given,
// by a stable name, also after bangerd's restart; another VM doesn't, and it no
// other port.
func TestHostPort(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		say := func(text string) (port string) {
			_, port, err := net.SplitHostPort(h.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, text)
			})))
			if err != nil {
				t.Fatal(err)
			}
			return port
		}
		given, other := say("the host's own"), say("not for VMs")
		h.create(t, "with", "--host-port", given)
		h.create(t, "without")
		ask := func(vm, port string) result {
			t.Helper()
			return h.run(t, "vm", "exec", vm, "--", "timeout", "20", "bash", "-c",
				`exec 3<>/dev/tcp/host.banger.internal/$0 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3`, port)
		}
		want := func(when string) {
			t.Helper()
			if r := ask("with", given); r.exit != 0 || !strings.HasSuffix(r.stdout, "the host's own") {
				t.Errorf("%s: exit %d, %q\n%s", when, r.exit, r.stdout, r.stderr)
			}
		}
		want("at first")
		if r := ask("with", other); r.exit == 0 || strings.Contains(r.stdout, "not for VMs") {
			t.Errorf("another port: exit %d, %q", r.exit, r.stdout)
		}
		if r := ask("without", given); r.exit == 0 || strings.Contains(r.stdout, "own") {
			t.Errorf("another VM: exit %d, %q", r.exit, r.stdout)
		}
		h.must(t, "daemon", "restart")
		want("after bangerd's restart")
	})
}
