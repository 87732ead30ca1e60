package agent

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is far beyond what any step takes on a busy machine.
const patience = time.Minute

// TestMain makes the test binary the agent's part that serves SFTP, as whose
// children the others are started.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == partSFTP {
		os.Exit(Main(os.Args, "test"))
	}
	os.Exit(m.Run())
}

// TestGivenFilesGoNoFurther: what a part of the agent was given is closed in all
// that it starts, in whatever way.
func TestGivenFilesGoNoFurther(t *testing.T) {
	given, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer given.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", partSFTP)
	cmd.ExtraFiles = []*os.File{given, given}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	for _, fd := range []int{3, 4} {
		deadline := time.Now().Add(patience)
		for flags := descriptorFlags(t, cmd.Process.Pid, fd); flags&unix.O_CLOEXEC == 0; flags = descriptorFlags(t, cmd.Process.Pid, fd) {
			if time.Now().After(deadline) {
				t.Fatalf("descriptor %d has flags %#o: it would be inherited", fd, flags)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// descriptorFlags are those of an open file of another process, proc_pid_fdinfo(5).
func descriptorFlags(t *testing.T, pid, fd int) uint64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
			if err != nil {
				t.Fatal(err)
			}
			return flags
		}
	}
	t.Fatalf("descriptor %d has no flags", fd)
	return 0
}

// notifySocket is a socket like the one that systemd writes to, and the
// notifications that are read from it.
func notifySocket(t *testing.T) (client net.Conn, n *notifications) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
	if client, err = net.Dial("unixgram", path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if n, err = readNotifications(f, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return client, n
}

func TestNotificationOfReadiness(t *testing.T) {
	client, n := notifySocket(t)
	for _, message := range []string{"STATUS=READY=1", "X_SYSTEMD_UNIT_ACTIVE=basic.target\n", "STATUS=Startup finished\nREADY=1\n"} {
		select {
		case <-n.booted:
			t.Fatalf("ready before %q", message)
		case <-time.After(10 * time.Millisecond):
		}
		if _, err := client.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	<-n.booted
}

// TestNotificationsAreReadForEver: systemd, as PID 1, may never have to wait for
// room in the socket, which it goes on to write its status to.
func TestNotificationsAreReadForEver(t *testing.T) {
	client, _ := notifySocket(t)
	if err := client.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		message := "STATUS=A start job is running"
		if i == 0 || i == 2500 { // systemd says it again when it is executed anew
			message = "READY=1"
		}
		if _, err := client.Write([]byte(message)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// TestTell: each worker learns that the system has booted, whenever it starts.
func TestTell(t *testing.T) {
	n := &notifications{booted: make(chan struct{})}
	early, told := telling(t, n, nil)
	select {
	case <-told:
		t.Fatal("told before the system has booted")
	case <-time.After(10 * time.Millisecond):
	}
	close(n.booted)
	<-told
	_ = early.Close()
	_, told = telling(t, n, nil)
	<-told

	ended := make(chan struct{})
	close(ended) // no worker, nobody to tell
	_, told = telling(t, &notifications{booted: make(chan struct{})}, ended)
	<-told
}

// telling starts to tell by a pipe. The channel is closed at the pipe's end.
func telling(t *testing.T, n *notifications, stop <-chan struct{}) (*os.File, <-chan struct{}) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	go n.tell(w, stop)
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, r)
	}()
	return r, told
}
