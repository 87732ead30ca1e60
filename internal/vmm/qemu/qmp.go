package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"banger/internal/guard"
	"banger/internal/guest"
)

// qmpTimeout bounds a command whose caller has no deadline.
const qmpTimeout = 10 * time.Second

// maxMessage bounds a message of QEMU's, in bytes; the greeting, the longest of
// those that are asked for, has a few hundred. A longer one ends the connection.
const maxMessage = 64 << 10

// errQMPClosed answers commands on a connection that has ended.
var errQMPClosed = errors.New("QEMU's monitor has closed the connection")

// qmpEvent is something that QEMU tells by itself.
type qmpEvent struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// qmpReply is any message from QEMU but the greeting.
type qmpReply struct {
	qmpEvent
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
}

// qmpError is QEMU's refusal of a command.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return guest.Excerpt(e.Desc) }

// qmpClient speaks the QEMU Machine Protocol over one connection
// (https://www.qemu.org/docs/master/interop/qmp-spec.html). QEMU serves one
// client at a time: another one's connection is accepted by the kernel, but
// gets no greeting until the first has gone.
type qmpClient struct {
	conn    net.Conn
	onEvent func(qmpEvent)
	done    chan struct{} // closed when the connection has ended and every event was handed out

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan qmpReply
}

// dialQMP connects and negotiates. onEvent gets every event, in order, on a
// goroutine of the client; it must be quick.
func dialQMP(ctx context.Context, socket string, onEvent func(qmpEvent)) (*qmpClient, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	return newQMP(ctx, conn, onEvent)
}

// newQMP negotiates on a connection, which it closes if that fails.
func newQMP(ctx context.Context, conn net.Conn, onEvent func(qmpEvent)) (*qmpClient, error) {
	c := &qmpClient{conn: conn, onEvent: onEvent, done: make(chan struct{}), waiting: map[uint64]chan qmpReply{}}
	in := bufio.NewReaderSize(conn, maxMessage)
	if err := c.readGreeting(ctx, in); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	guard.Go("read QEMU's monitor", func() { c.read(in) })
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *qmpClient) readGreeting(ctx context.Context, in *bufio.Reader) error {
	// The deadline of the past makes a blocked read return.
	stop := context.AfterFunc(ctx, guard.Func("end a QMP command", func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }))
	line, err := in.ReadSlice('\n')
	if !stop() {
		return fmt.Errorf("wait for QEMU's monitor: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("read greeting of QEMU's monitor: %w", err)
	}
	var greeting struct {
		QMP *json.RawMessage
	}
	if err := json.Unmarshal(line, &greeting); err != nil || greeting.QMP == nil {
		return fmt.Errorf("read greeting of QEMU's monitor: %s isn't one", guest.Excerpt(strconv.Quote(string(line))))
	}
	return nil
}

// read hands out messages until the connection ends.
func (c *qmpClient) read(in *bufio.Reader) {
	defer close(c.done)
	// Nothing but the end can follow a message that can't be decoded or handed
	// out. Closing twice is harmless.
	defer c.conn.Close()
	bounded := &io.LimitedReader{R: in}
	messages := json.NewDecoder(bounded)
	for {
		var m qmpReply
		bounded.N = maxMessage // beside what the decoder has read ahead
		if err := messages.Decode(&m); err != nil {
			return
		}
		if m.Name != "" {
			c.onEvent(m.qmpEvent)
			continue
		}
		c.mu.Lock()
		reply := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if reply != nil {
			reply <- m
		}
	}
}

// Execute runs a command and stores what it returns in result, which may be
// nil. QEMU's refusal is a *qmpError.
func (c *qmpClient) Execute(ctx context.Context, command string, arguments, result any) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	id, reply, err := c.send(ctx, command, arguments)
	if err != nil {
		return fmt.Errorf("ask QEMU for %s: %w", command, err)
	}
	select {
	case m := <-reply:
		if m.Error != nil {
			return fmt.Errorf("QEMU refuses %s: %w", command, m.Error)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Return, result); err != nil {
			return fmt.Errorf("read QEMU's answer to %s: %s", command, guest.Excerpt(err.Error()))
		}
		return nil
	case <-c.done:
		err = errQMPClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	delete(c.waiting, id) // a late reply is dropped
	c.mu.Unlock()
	return fmt.Errorf("ask QEMU for %s: %w", command, err)
}

func (c *qmpClient) send(ctx context.Context, command string, arguments any) (uint64, <-chan qmpReply, error) {
	reply := make(chan qmpReply, 1) // the reader never waits for a caller that gave up
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	message, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, c.nextID})
	if err != nil {
		return 0, nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(append(message, '\n')); err != nil {
		return 0, nil, err
	}
	c.waiting[c.nextID] = reply
	return c.nextID, reply, nil
}

// Done is closed when the connection has ended and the last event was handed
// out.
func (c *qmpClient) Done() <-chan struct{} { return c.done }

// Close ends the connection; QEMU goes on.
func (c *qmpClient) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) { // by read, because QEMU has ended
		return nil
	}
	return err
}
