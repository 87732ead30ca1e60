package firecracker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
	"banger/internal/guest/halfclose"
)

// The test program is a Firecracker, without KVM, when it is called by one of
// its names. The name tells the release to play.
var fakeName = regexp.MustCompile(`^firecracker-v(\d+\.\d+\.\d+)$`)

// newestFake is the release that tests play unless they say otherwise.
const newestFake = "1.16.1"

// fakeProcess is a Firecracker process with a simulated guest, whose kernel
// command line tells how it behaves:
//
//	guest=panic     the kernel panics at once
//	guest=fail      Firecracker fails with status 148
//	guest=slow      the agent listens after a second
//	guest=nomodule  the agent never listens
type fakeProcess struct {
	log     *os.File
	console io.Writer
	args    struct{ id, socket, logPath, level, metrics string }

	mu      sync.Mutex
	vsock   *net.UnixListener
	kernel  string // path
	cmdline string // kernel command line
	drives  []string
	halted  atomic.Bool
}

// runFake is the process's main.
func runFake(release string, argv []string) int {
	v, err := parseVersion(release)
	if err != nil {
		panic(err)
	}
	p := &fakeProcess{console: os.Stdout}
	flags := flag.NewFlagSet("firecracker", flag.ContinueOnError)
	flags.StringVar(&p.args.id, "id", "anonymous-instance", "")
	flags.StringVar(&p.args.socket, "api-sock", "/run/firecracker.socket", "")
	flags.StringVar(&p.args.logPath, "log-path", "", "")
	flags.StringVar(&p.args.level, "level", "", "")
	flags.StringVar(&p.args.metrics, "metrics-path", "", "")
	flags.Bool("show-level", false, "")
	if err := flags.Parse(argv); err != nil {
		return 153
	}
	if p.log, err = os.OpenFile(p.args.logPath, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		fmt.Fprintf(os.Stderr, "Error: Could not initialize logger: %v\n", err)
		return 1
	}
	listener, err := net.Listen("unix", p.args.socket)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Error: RunWithApiError(FailedToBindSocket(%q)): %v\n", p.args.socket, err)
		return 1
	}
	api := newFakeAPI(v, p.args.id, p)
	api.log = func(format string, args ...any) { p.logf("INFO", format, args...) }
	server := &http.Server{Handler: api, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			p.logf("INFO", "connection")
		}
	}}
	_ = server.Serve(listener)
	return 1
}

func (p *fakeProcess) logf(level, format string, args ...any) {
	fmt.Fprintf(p.log, "%s [%s:main:%s] %s\n", time.Now().UTC().Format(time.RFC3339Nano), p.args.id, level, fmt.Sprintf(format, args...))
}

func (p *fakeProcess) exit(code int) {
	if code == 0 {
		p.logf("INFO", "Firecracker exiting successfully. exit_code=0")
	} else {
		p.logf("ERROR", "Firecracker exiting with error. exit_code=%d", code)
	}
	os.Exit(code)
}

// apply does what Firecracker does when a request is made: it opens files
// and binds the socket then, and reads the kernel at the start.
func (p *fakeProcess) apply(method, path string, body map[string]any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case path == "/boot-source":
		p.kernel, _ = body["kernel_image_path"].(string)
		p.cmdline, _ = body["boot_args"].(string)
		initrd, _ := body["initrd_path"].(string)
		if err := openable(p.kernel, os.O_RDONLY); err != nil {
			return faultf("Boot source error: The kernel file cannot be opened: %v", err)
		}
		if err := openable(initrd, os.O_RDONLY); initrd != "" && err != nil {
			return faultf("Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. %v", err)
		}
	case strings.HasPrefix(path, "/drives/") && method == http.MethodPut:
		return p.addDrive(body)
	case strings.HasPrefix(path, "/network-interfaces/") && method == http.MethodPut:
		// What the kernel says of a malformed name; any other tap exists here.
		if tap, _ := body["host_dev_name"].(string); strings.ContainsAny(tap, " /") {
			return faultf("Network config error: Could not create the network device: Open tap device failed: Error while creating ifreq structure: Invalid argument (os error 22). Invalid TUN/TAP Backend provided by %s. Check our documentation on setting up the network devices.", tap)
		}
	case path == "/vsock":
		return p.bindVsock(body)
	case path == "/actions" && body["action_type"] == actionStart:
		return p.start()
	case path == "/actions" && body["action_type"] == actionCtrlAltDel:
		go p.restart()
	}
	return nil
}

func openable(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return fmt.Errorf("%w (os error %d)", errno, int(errno))
	}
	return f.Close()
}

func (p *fakeProcess) addDrive(body map[string]any) error {
	path, _ := body["path_on_host"].(string)
	flag := os.O_RDWR
	if body["is_read_only"] == true {
		flag = os.O_RDONLY
	}
	if err := openable(path, flag); err != nil {
		return faultf("Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: %v %s", err, path)
	}
	p.drives = append(p.drives, path)
	return nil
}

func (p *fakeProcess) bindVsock(body map[string]any) error {
	path, _ := body["uds_path"].(string)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return faultf("Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: %v", err)
	}
	listener.SetUnlinkOnClose(false)
	p.vsock = listener
	return nil
}

func (p *fakeProcess) start() error {
	magic := make([]byte, 4)
	kernel, err := os.Open(p.kernel)
	if err != nil {
		return faultf("Start microvm error: Cannot start microvm without kernel configuration.")
	}
	defer kernel.Close()
	if _, err := io.ReadFull(kernel, magic); err != nil || !bytes.Equal(magic, []byte("\x7fELF")) {
		return faultf("Start microvm error: System configuration error: Cannot load kernel due to invalid memory configuration or invalid kernel image: Kernel Loader: failed to load ELF kernel image: Kernel Loader: Invalid Elf magic number")
	}
	fmt.Fprintf(p.console, "[    0.000000] Linux version 6.12 fake\r\n")
	go p.runVCPU()
	switch {
	case strings.Contains(p.cmdline, "guest=panic"):
		fmt.Fprintf(p.console, "[    1.000000] Kernel panic - not syncing: No working init found.\r\n")
		time.AfterFunc(10*time.Millisecond, func() { p.exit(0) })
	case strings.Contains(p.cmdline, "guest=fail"):
		time.AfterFunc(10*time.Millisecond, func() {
			p.logf("ERROR", "Shutting down VM after intercepting a bad syscall (7)")
			p.exit(148)
		})
	}
	if p.vsock != nil {
		go p.serveGuest()
	}
	return nil
}

// runVCPU is a virtual processor: a thread that wakes often, until the guest
// has halted.
func (p *fakeProcess) runVCPU() {
	runtime.LockOSThread()
	if err := os.WriteFile(filepath.Join("/proc/self/task", fmt.Sprint(unix.Gettid()), "comm"), []byte("fc_vcpu 0"), 0); err != nil {
		panic(err)
	}
	for !p.halted.Load() {
		_, _ = unix.Poll(nil, 20) // interrupted or not, it has run
	}
	for {
		_, _ = unix.Poll(nil, -1)
	}
}

// serveGuest answers on the vsock socket as docs/vsock.md says.
func (p *fakeProcess) serveGuest() {
	if strings.Contains(p.cmdline, "guest=nomodule") {
		return // connections are accepted by the host's kernel, and left waiting
	}
	listening := time.Now()
	if strings.Contains(p.cmdline, "guest=slow") {
		listening = listening.Add(time.Second)
	}
	for {
		conn, err := p.vsock.AcceptUnix()
		if err != nil {
			return
		}
		if p.halted.Load() {
			continue
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			var port uint32
			if _, err := fmt.Fscanf(in, "CONNECT %d\n", &port); err != nil || time.Now().Before(listening) {
				return
			}
			switch port {
			case guest.PortControl:
				fmt.Fprintf(conn, "OK %d\n", 1<<30)
				p.control(halfclose.New(bufferedConn{conn, in}))
			case guest.PortSSH:
				// The guest's first bytes follow in the same segment.
				fmt.Fprintf(conn, "OK %d\n\x00\x00\x00\x0eSSH-2.0-fake\r\n", 1<<30+1)
				p.echo(halfclose.New(bufferedConn{conn, in}))
			}
		}()
	}
}

// bufferedConn is a connection whose first bytes were read into a buffer.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (p *fakeProcess) echo(conn net.Conn) {
	defer conn.Close()
	n, _ := io.Copy(conn, conn)
	fmt.Fprintf(conn, "%d bytes, then EOF\n", n)
}

func (p *fakeProcess) control(conn net.Conn) {
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return
	}
	var request struct {
		Call   guest.Call           `json:"call"`
		Params guest.ShutdownParams `json:"params"`
	}
	if err := json.Unmarshal(line, &request); err != nil {
		fmt.Fprintf(conn, "{\"error\":%q}\n", err)
		return
	}
	switch request.Call {
	case guest.CallHealth:
		fmt.Fprintln(conn, `{"result":{"version":"fake","stage":"initramfs"}}`)
	case guest.CallShutdown:
		fmt.Fprintln(conn, `{}`)
		if request.Params.Reset {
			p.restart()
		}
		fmt.Fprintf(p.console, "[    9.000000] reboot: Power off not available: System halted instead\r\n")
		p.halted.Store(true)
	}
}

func (p *fakeProcess) restart() {
	fmt.Fprintf(p.console, "[    9.000000] reboot: Restarting system\r\n")
	p.exit(0)
}
