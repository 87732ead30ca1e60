package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/procid"
	"banger/internal/vmm"
)

// VM is the virtual hardware of a simulated VM, as its software sees it.
type VM struct {
	Spec vmm.Spec

	handle vmm.Handle
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends the process
	log    *slog.Logger
	hold   vmm.Hold
	booted chan struct{} // closed once serve is set
	ended  chan struct{} // closed once the process has been reaped

	mu          sync.Mutex
	serve       Serve
	powerButton func()
	reason      string
	conns       map[net.Conn]struct{} // the guest's ends; nil once the VM has ended
}

// startVM starts a VM's process: cat, which ends when its input does, so that
// none outlives the test.
func startVM(spec vmm.Spec) (*VM, error) {
	vm := &VM{
		Spec: spec, log: slog.New(slog.DiscardHandler), conns: map[net.Conn]struct{}{},
		booted: make(chan struct{}), ended: make(chan struct{}),
	}
	vm.powerButton = vm.PowerOff
	if err := vm.print("fake VM " + spec.ID + " starts\n"); err != nil {
		return nil, err
	}
	vm.cmd = exec.Command("cat") //nolint:noctx // it ends with the VM, not with a call
	vm.cmd.Dir = spec.RuntimeDir
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := vm.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	vm.stdin = stdin
	if err := vm.cmd.Start(); err != nil {
		return nil, err
	}
	pid := vm.cmd.Process.Pid
	start, err := procid.StartTime(pid)
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), vm.cmd.Wait())
	}
	vm.handle = vmm.Handle{Driver: FakeName, PID: pid, StartTime: start, Accel: "tcg"}
	return vm, nil
}

// Hold has the machine say why the guest is stopped, "" that it runs. The guest's
// software isn't stopped.
func (vm *VM) Hold(why string) { vm.hold.Set(why) }

// run boots the guest and waits for the end of the process.
func (vm *VM) run(boot func(*VM) Serve) {
	go func() {
		serve := boot(vm)
		vm.mu.Lock()
		vm.serve = serve
		vm.mu.Unlock()
		close(vm.booted)
	}()
	_ = vm.cmd.Wait() // its error repeats the state
	vm.mu.Lock()
	if vm.reason == "" {
		vm.reason = "the VMM ended: " + vm.cmd.ProcessState.String()
	}
	conns := vm.conns
	vm.conns = nil
	vm.mu.Unlock()
	for conn := range conns {
		_ = conn.Close() // the guest's software may have closed it
	}
	close(vm.ended)
}

// dial connects to a port of the guest.
func (vm *VM) dial(ctx context.Context, port uint32) (guest.Conn, error) {
	select {
	case <-vm.ended: // also of a guest that had booted
		return nil, vmm.ErrGone
	default:
	}
	select {
	case <-vm.booted:
	case <-vm.ended:
		return nil, vmm.ErrGone
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the guest: %w", ctx.Err())
	}
	host, end, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of a fake guest: %w", port, err)
	}
	conn := &guestConn{UnixConn: end, vm: vm}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.conns == nil {
		return nil, errors.Join(vmm.ErrGone, host.Close(), end.Close())
	}
	vm.conns[conn] = struct{}{}
	go vm.serve(port, conn)
	return host, nil
}

// guestConn is the guest's end of a connection; the VM's end closes it.
type guestConn struct {
	*net.UnixConn
	vm *VM
}

func (c *guestConn) Close() error {
	c.vm.mu.Lock()
	delete(c.vm.conns, c)
	c.vm.mu.Unlock()
	return c.UnixConn.Close()
}

// socketPair returns a connection that has deadlines and half-close.
func socketPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "guest")
		conn, connErr := net.FileConn(file) // a duplicate
		err = errors.Join(err, connErr, file.Close())
		if connErr == nil {
			ends[i] = conn.(*net.UnixConn)
		}
	}
	return ends[0], ends[1], err
}

// OnPowerButton sets what the guest does when the host presses the power
// button; at first it powers off.
func (vm *VM) OnPowerButton(press func()) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.powerButton = press
}

// Print writes to the VM's console.
func (vm *VM) Print(text string) {
	if err := vm.print(text); err != nil {
		vm.end("the console can't be written: " + err.Error())
	}
}

func (vm *VM) print(text string) error {
	console, err := os.OpenFile(vm.Spec.Console, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = console.WriteString(text)
	return errors.Join(err, console.Close())
}

// PowerOff ends the VM as a guest does that shuts down.
func (vm *VM) PowerOff() { vm.end("the guest powered off") }

// Reboot ends the VM as a guest does that reboots.
func (vm *VM) Reboot() { vm.end(vmm.Rebooted) }

// Panic ends the VM as a guest's kernel does that panics.
func (vm *VM) Panic(message string) {
	vm.Print("Kernel panic - not syncing: " + message + "\n")
	vm.end("the guest's kernel panicked: " + message)
}

// end ends the VM's process. The first reason counts.
func (vm *VM) end(reason string) {
	vm.mu.Lock()
	if vm.reason == "" {
		vm.reason = reason
	}
	vm.mu.Unlock()
	_ = vm.stdin.Close() // fails only if it is closed already
}

func (vm *VM) exitReason() string {
	select {
	case <-vm.ended:
	default:
		return ""
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.reason
}
