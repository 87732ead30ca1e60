package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// roleVariable tells a process of this test what it is.
const roleVariable = "BANGER_TEST_TAP_ROLE"

const (
	testTap  = "bgr-test"
	guestMAC = "52:54:00:00:00:02"
)

// TestReattachTap removes the tap of a process that waits for frames as
// Firecracker does, for edges of epoll alone, and without asking it gives it
// another one.
func TestReattachTap(t *testing.T) {
	switch os.Getenv(roleVariable) {
	case "host":
		testReattachTap(t)
		return
	case "vmm":
		t.Fatal(countFrames())
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skipf("SKIPPED: no taps here: %v", err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := tapRole(t, "host")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("SKIPPED: no user and network namespaces here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
}

func tapRole(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

func testReattachTap(t *testing.T) {
	tap := makeTap(t)
	cmd := tapRole(t, "vmm")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	frames := make(chan string, 64)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			frames <- lines.Text()
		}
	}()
	process, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()

	for <-frames != "open" {
		continue // what go test says
	}
	send(t, frames, "first")
	if err := process.ReattachTap(testTap); err == nil {
		t.Error("a tap that isn't lost was taken")
	}
	for _, word := range []string{"second", "third"} {
		if err := netlink.LinkDel(tap); err != nil {
			t.Fatal(err)
		}
		tap = makeTap(t)
		if err := process.ReattachTap(testTap); err != nil {
			t.Fatal(err)
		}
		send(t, frames, word)
	}
	if _, err := process.duplicate("100000"); err == nil {
		t.Error("a descriptor that isn't there was taken")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	for _, what := range []string{"zombie", "process that has ended"} {
		if err := process.ReattachTap(testTap); !errors.Is(err, ErrGone) {
			t.Errorf("of a %s: %v", what, err)
		}
		_ = cmd.Wait() // it was killed
	}
}

// makeTap makes a tap by which the guest's address is reached.
func makeTap(t *testing.T) netlink.Link {
	t.Helper()
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: testTap}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(guestMAC)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(netlink.AddrAdd(tap, addr), netlink.LinkSetUp(tap), netlink.NeighSet(&netlink.Neigh{
		LinkIndex: tap.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(192, 0, 2, 2), HardwareAddr: mac,
	}))
	if err != nil {
		t.Fatal(err)
	}
	return tap
}

// send sends the guest a word, again and again until it arrives: the host takes a
// moment to see that somebody has opened the tap.
func send(t *testing.T, frames <-chan string, word string) {
	t.Helper()
	conn, err := net.Dial("udp4", "192.0.2.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err := io.WriteString(conn, word); err != nil {
			t.Fatal(err)
		}
		if arrives(frames, word) {
			return
		}
	}
	t.Fatalf("%q doesn't arrive", word)
}

// arrives waits a moment for a line.
func arrives(lines <-chan string, want string) bool {
	timeout := time.After(100 * time.Millisecond)
	for {
		select {
		case line := <-lines:
			if line == want {
				return true
			}
		case <-timeout:
			return false
		}
	}
}

// countFrames is the VMM: it prints what UDP packets hold, where a frame has the
// header of virtio 1, and "open" at first.
func countFrames() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq(testTap)
	if err != nil {
		return err
	}
	request.SetUint16(TapFlags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, frameHeader); err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return err
	}
	fmt.Println("open")
	const headers = frameHeader + 14 + 20 + 8 // Ethernet, IPv4, UDP
	frame := make([]byte, 4096)
	for {
		if _, err := unix.EpollWait(epoll, []unix.EpollEvent{{}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for {
			n, err := unix.Read(fd, frame)
			if err != nil {
				break // nothing is there, or no tap
			}
			if n > headers {
				fmt.Println(string(frame[headers:n]))
			}
		}
	}
}
