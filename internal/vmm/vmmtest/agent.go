package vmmtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"banger/internal/guest"
)

// Agent is the software of a simulated guest that behaves as banger's agent
// does: it answers the control calls, and boots at once. Its fields may be set
// before the guest is reached; zero values do nothing.
type Agent struct {
	// SSH handles a connection to the SSH port and closes it; nil: echo.
	SSH func(net.Conn)
	// OnBoot sees the configuration; its error becomes the answer.
	OnBoot func(guest.BootConfig) error
	// OnExtract reads a tar stream; its error becomes the answer.
	OnExtract func(guest.ExtractParams, io.Reader) error
	// OnArchive writes the root filesystem as a tar; its error becomes the answer.
	OnArchive func(io.Writer) error
	// OnShutdown is called once the order to shut down was answered; the guest
	// goes down when it returns.
	OnShutdown func()
	// OnClock answers for the guest's clock; nil: it is the host's.
	OnClock func(guest.ClockParams) guest.Clock
	// Ready is the answer to the call of that name; an empty state means
	// "running".
	Ready guest.Ready
	// OnReady is called before that answer is given.
	OnReady func()
	// NotReady, if set, is the answer instead: the init has given up.
	NotReady error

	vm      *VM
	started time.Time

	mu    sync.Mutex
	stage guest.Stage
}

// NewAgent returns an agent for a VM that has just started.
func NewAgent(vm *VM) *Agent {
	return &Agent{vm: vm, started: time.Now(), stage: guest.StageInitramfs}
}

// Serve handles a connection; a port that an agent doesn't have is closed.
func (a *Agent) Serve(port uint32, conn net.Conn) {
	defer conn.Close()
	switch {
	case port == guest.PortControl:
		a.control(conn)
	case port == guest.PortSSH && a.SSH != nil:
		a.SSH(conn)
	case port == guest.PortSSH:
		_, _ = io.Copy(conn, conn) // ends with the connection
	}
}

// control answers one call.
func (a *Agent) control(conn net.Conn) {
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return // the host went away
	}
	var request guest.Request
	var result any
	if err = json.Unmarshal(line, &request); err == nil {
		result, err = a.call(request, conn, in)
	}
	answer(conn, result, err)
	if request.Call == guest.CallShutdown && err == nil {
		a.shutDown(request.Params)
	}
}

func answer(conn net.Conn, result any, err error) {
	var response guest.Response
	if err == nil && result != nil {
		response.Result, err = json.Marshal(result)
	}
	if err != nil {
		response.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(response) // the host may have gone away
}

func (a *Agent) call(request guest.Request, conn net.Conn, in io.Reader) (any, error) {
	switch request.Call {
	case guest.CallHealth:
		a.mu.Lock()
		defer a.mu.Unlock()
		return guest.Health{Version: "fake", Stage: a.stage, Uptime: time.Since(a.started)}, nil
	case guest.CallBoot:
		return a.boot(request.Params)
	case guest.CallReady:
		if a.OnReady != nil {
			a.OnReady()
		}
		if a.NotReady != nil {
			return nil, a.NotReady
		}
		ready := a.Ready
		if ready.State == "" {
			ready.State = "running"
		}
		ready.Uptime = time.Since(a.started)
		return ready, nil
	case guest.CallExtract:
		return nil, a.extract(request.Params, conn, in)
	case guest.CallArchive:
		return nil, a.archive(conn)
	case guest.CallShutdown:
		return nil, nil
	case guest.CallClock:
		return a.clock(request.Params)
	}
	return nil, fmt.Errorf("unknown call %q", request.Call)
}

func (a *Agent) boot(params json.RawMessage) (any, error) {
	var config guest.BootConfig
	if err := json.Unmarshal(params, &config); err != nil {
		return nil, fmt.Errorf("read boot configuration: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stage != guest.StageInitramfs {
		return nil, fmt.Errorf("boot: this guest is booted already")
	}
	if a.OnBoot != nil {
		if err := a.OnBoot(config); err != nil {
			return nil, err
		}
	}
	a.stage = guest.StageReady
	return guest.BootResult{Init: "/sbin/init", Started: time.Millisecond, Booted: time.Since(a.started)}, nil
}

func (a *Agent) clock(params json.RawMessage) (any, error) {
	var p guest.ClockParams
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("read what to do with the clock: %w", err)
	}
	if a.OnClock != nil {
		return a.OnClock(p), nil
	}
	return guest.Clock{Uptime: time.Since(a.started), Time: time.Now()}, nil
}

func (a *Agent) extract(params json.RawMessage, conn net.Conn, in io.Reader) error {
	var where guest.ExtractParams
	if err := json.Unmarshal(params, &where); err != nil {
		return fmt.Errorf("read where to extract: %w", err)
	}
	answer(conn, nil, nil) // go ahead
	if a.OnExtract != nil {
		if err := a.OnExtract(where, in); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

func (a *Agent) archive(conn net.Conn) error {
	if a.OnArchive == nil {
		return errors.New("this guest has no files")
	}
	answer(conn, nil, nil) // go ahead
	w := guest.NewChunkWriter(conn)
	err := a.OnArchive(w)
	return errors.Join(err, w.Close())
}

func (a *Agent) shutDown(params json.RawMessage) {
	if a.OnShutdown != nil {
		a.OnShutdown()
	}
	var how guest.ShutdownParams
	if len(params) > 0 && json.Unmarshal(params, &how) == nil && how.Reset {
		a.vm.Reboot()
		return
	}
	a.vm.PowerOff()
}
