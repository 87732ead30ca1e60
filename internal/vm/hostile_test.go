package vm

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/lockedbuffer"
	"banger/internal/vmm/vmmtest"
)

// A guest that fails the wait for its init each time is asked less and less
// often, and what it says is logged in excerpts.
func TestGuestThatIsNeverReady(t *testing.T) {
	w := newWorld(t)
	log := &lockedbuffer.Buffer{}
	w.config.Log = slog.New(slog.NewTextHandler(log, nil))
	w.restart(t)
	asked := make(chan time.Time, 100)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		return func(port uint32, conn net.Conn) {
			in := bufio.NewReader(conn)
			head, _ := in.Peek(len(`{"call":"ready"`))
			ready := string(head) == `{"call":"ready"`
			if !ready && !strings.HasPrefix(string(head), `{"call":"heal`) {
				agent.Serve(port, &readConn{conn, in})
				return
			}
			defer conn.Close()
			var request guest.Request
			if guest.ReadLine(in, &request) != nil {
				return
			}
			if !ready { // it only boots on, as far as it says
				_ = guest.WriteLine(conn, guest.Response{Result: json.RawMessage(`{"stage":"booting"}`)})
				return
			}
			asked <- time.Now() // before the answer, after which the pause begins
			_ = guest.WriteLine(conn, guest.Response{Error: strings.Repeat("no! ", 10<<10)})
		}
	})
	w.create(t, api.CreateVM{Name: "web", Wait: api.WaitAgent})
	first, second, third := <-asked, <-asked, <-asked
	if second.Sub(first) < firstReadyPause || third.Sub(second) < 2*firstReadyPause {
		t.Errorf("the guest was asked after %v and %v", second.Sub(first), third.Sub(second))
	}
	logged := log.String()
	if n := len(logged) / max(1, strings.Count(logged, "wait for the guest")); n > 2*guest.MaxText || n < guest.MaxText {
		t.Errorf("each answer is logged in %d bytes", n)
	}
}

// readConn is a connection of which something has been read ahead.
type readConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *readConn) Read(p []byte) (int, error) { return c.in.Read(p) }
