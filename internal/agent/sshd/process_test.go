package sshd

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestProcessHasNothingOfTheServer(t *testing.T) {
	const openFiles = "ls /proc/self/fd | wc -l"
	// What the test itself has been left with is inherited, too.
	want, err := exec.Command("sh", "-c", openFiles).Output()
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, func(c *Config) { c.SFTPServer = []string{"/bin/sh", "-c", openFiles} })
	out := f.output(openFiles + "; sed -n '/^Sig[BI]/p' /proc/self/status; ps -o pid=,pgid=,sid= -p $$")
	lines := strings.Split(out, "\n")
	if lines[0] != strings.TrimSpace(string(want)) {
		t.Errorf("it has %s open files, want %s", lines[0], want)
	}
	for way, got := range f.inEachWay(openFiles, "sftp") {
		if strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
			t.Errorf("%s: it has %s open files, want %s", way, got, want)
		}
	}
	for _, signals := range lines[1:3] {
		_, set, _ := strings.Cut(signals, ":\t")
		mask, err := strconv.ParseUint(set, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		// Signals from 32 on are the C library's and nobody's default; what
		// this test was started with of them is inherited.
		if mask&(1<<31-1) != 0 {
			t.Errorf("signals are blocked or ignored: %s", signals)
		}
	}
	if ids := strings.Fields(lines[3]); len(ids) != 3 || ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("pid, process group and session: %q", lines[3])
	}
}

// inEachWay runs a command in each way in which the server starts one, and
// returns what it wrote by the name of the way.
func (f *fixture) inEachWay(command, subsystem string) map[string]string {
	f.t.Helper()
	terminal := f.terminalSession(nil)
	out, err := terminal.Output(command)
	if err != nil {
		f.t.Fatal(err)
	}
	ways := map[string]string{"exec": f.output(command), "terminal": strings.ReplaceAll(string(out), "\r\n", "\n")}
	shell := f.session()
	shell.Stdin = strings.NewReader(command + "\n")
	ways["shell"] = f.read(shell, shell.Shell)
	subsystemSession := f.session()
	ways["subsystem"] = f.read(subsystemSession, func() error { return subsystemSession.RequestSubsystem(subsystem) })
	return ways
}

// read returns all that a session writes which start starts.
func (f *fixture) read(s *ssh.Session, start func() error) string {
	f.t.Helper()
	stdout, err := s.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := start(); err != nil {
		f.t.Fatal(err)
	}
	out, err := io.ReadAll(stdout)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(out)
}

// TestIgnoredSignalsAreNotInherited runs the test above in a process that was
// started by one that ignores signals, as a supervisor does.
func TestIgnoredSignalsAreNotInherited(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const ignore = `trap "" HUP INT QUIT TERM USR1; exec "$0" "$@"`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", ignore, self, "-test.v", "-test.run=^TestProcessHasNothingOfTheServer$")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestProcessHasNothingOfTheServer") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestProcessIsNotProtectedFromOOM(t *testing.T) {
	const adjustment = "/proc/self/oom_score_adj"
	f := serve(t, nil)
	own, err := os.ReadFile(adjustment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(adjustment, []byte("-1"), 0); err != nil {
		// An ordinary user may only raise it, and lower it again.
		if err := os.WriteFile(adjustment, []byte("1"), 0); err != nil {
			t.Skip(err)
		}
	}
	defer func() {
		if err := os.WriteFile(adjustment, own, 0); err != nil {
			t.Error(err)
		}
	}()
	if got := f.output("cat " + adjustment); got != "0\n" {
		t.Errorf("a command's oom_score_adj is %q", got)
	}
	s := f.terminalSession(nil)
	if got, err := s.Output("cat " + adjustment); err != nil || string(got) != "0\r\n" {
		t.Errorf("in a terminal it is %q, %v", got, err)
	}
	if got := f.output("(sleep 0.2; kill -CONT $$) & kill -STOP $$; echo $?"); got != "0\n" {
		t.Errorf("a command that is stopped and continued: %q", got)
	}
}

func TestStartFailure(t *testing.T) {
	for path, want := range map[string]string{"/no/such/shell": "127", "/etc": "126"} {
		user := &account{name: "x", uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), shell: path}
		_, err := startProcess(processSpec{path: path, argv: []string{"x"}, user: user}, nil, nil, nil)
		if err == nil {
			t.Fatalf("%s runs", path)
		}
		if _, payload := exitMessage(startFailure(err)); string(payload) != string(ssh.Marshal(struct{ Status uint32 }{uint32(number(t, want))})) {
			t.Errorf("%s: %v gives %q, want %s", path, err, payload, want)
		}
	}
}

// TestOtherUser logs in as somebody else, which only root can let happen.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const name = "nobody"
	other, err := lookupUser(etcDir, name)
	if err != nil {
		t.Skip(err)
	}
	f := serve(t, nil)
	f.user = name
	if got := f.output("id -un"); got != name+"\n" {
		t.Errorf("the account runs commands as %q", got)
	}
	user := &account{name: name, uid: other.uid, gid: other.gid, groups: other.groups, home: shortDir(t), shell: "/bin/sh"}
	terminal, err := openTerminal(ptyRequest{Columns: 80, Rows: 24}, user)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.close()
	out := filepath.Join(shortDir(t), "out")
	spec := processSpec{path: "/bin/sh", argv: []string{"sh", "-c", "id -u; id -g; pwd; : <>" + terminal.name() + " && echo mine"}, user: user, terminal: terminal}
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p, err := startProcess(spec, terminal.slave, file, file)
	if err != nil {
		t.Fatal(err)
	}
	p.wait()
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{uid(other.uid), uid(other.gid), "/", "mine", ""}
	if diff := cmp.Diff(want, strings.Split(string(got), "\n")); diff != "" {
		t.Error(diff)
	}
}
