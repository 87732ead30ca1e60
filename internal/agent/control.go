package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"banger/internal/guest"
)

// requestTimeout is how long a host may take to send its request.
const requestTimeout = time.Minute

// call is one control call under way.
type call struct {
	request guest.Request
	conn    net.Conn
	lines   *bufio.Reader // the connection, with what has been read ahead
	after   func()        // runs once the response has been written; may be nil
}

// params decodes the call's parameters.
func (c *call) params(p any) error {
	if err := json.Unmarshal(c.request.Params, p); err != nil {
		return fmt.Errorf("decode parameters of %s: %w", c.request.Call, err)
	}
	return nil
}

// respond writes a response.
func (c *call) respond(result any, err error) error {
	var r guest.Response
	if err == nil && result != nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r = guest.Response{Error: err.Error()}
	}
	return guest.WriteLine(c.conn, r)
}

// handlers answer calls; their result is what the call returns.
type handlers map[guest.Call]func(*call) (result any, err error)

// serveControl handles one connection to the control port.
func serveControl(conn net.Conn, h handlers, log *slog.Logger) {
	defer conn.Close()
	c := &call{conn: conn, lines: bufio.NewReaderSize(conn, 64<<10)}
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	if err := guest.ReadLine(c.lines, &c.request); err != nil {
		log.Debug("read control call", "err", err)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	var result any
	var err error
	if handle := h[c.request.Call]; handle != nil {
		result, err = handle(c)
	} else {
		err = fmt.Errorf("the guest's agent can't do %q at this stage", c.request.Call)
	}
	if err := c.respond(result, err); err != nil {
		log.Debug("answer control call", "call", c.request.Call, "err", err)
	}
	if c.after != nil {
		c.after()
	}
}

// once tells its first caller apart.
type once struct{ done atomic.Bool }

func (o *once) first() bool { return o.done.CompareAndSwap(false, true) }
