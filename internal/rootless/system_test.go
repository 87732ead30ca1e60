package rootless

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"banger/internal/network"
	"banger/internal/paths"
)

// roleVariable makes the test binary another program, see TestMain.
const roleVariable = "BANGER_TEST_ROLE"

// keepArg and blockArg, as the first argument, do so before that.
const keepArg, blockArg, lookArg = "keep", "block", "look"

// noKeeperVariable makes the start of a keeper fail.
const noKeeperVariable = "BANGER_TEST_NO_KEEPER"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if len(os.Args) > 1 && slices.Contains([]string{keepArg, blockArg, lookArg}, os.Args[1]) {
		role = os.Args[1]
	}
	var err error
	switch role {
	case keepArg:
		err = keepAsTest()
	case blockArg: // inside
		err = network.Block(parseAddrs(os.Args[2:]))
	case lookArg: // inside
		fmt.Println(strings.Join(blocked(), "\n"))
	case "guest": // inside, see guest_test.go
		if os.Geteuid() != 0 {
			err = enterAsTest()
			break
		}
		err = actAsGuest()
	case "enter": // what bangerd does at its start
		if os.Geteuid() != 0 {
			err = enterAsTest()
			break
		}
		err = json.NewEncoder(os.Stdout).Encode(look())
	case "stay": // the same, and a VM's stand-in: it ends with its input
		if os.Geteuid() != 0 {
			err = enterAsTest()
			break
		}
		fmt.Println("inside")
		_, err = io.Copy(io.Discard, os.Stdin)
	case "release": // from inside
		if os.Geteuid() != 0 {
			err = enterAsTest()
			break
		}
		var layout paths.Layout
		if layout, err = paths.FromEnv(); err == nil {
			err = Release(context.Background(), layout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func enterAsTest() error {
	layout, err := paths.FromEnv()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	keep := []string{exe, keepArg}
	if os.Getenv(noKeeperVariable) != "" {
		keep = []string{"false"}
	}
	return Enter(context.Background(), layout, slog.New(slog.NewTextHandler(os.Stderr, nil)), keep)
}

func keepAsTest() error {
	layout, err := paths.FromEnv()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return Keep(ctx, layout, slog.New(slog.NewTextHandler(os.Stderr, nil)), []string{exe, blockArg}, network.DialLoopback)
}

func parseAddrs(args []string) []netip.Addr {
	addrs := make([]netip.Addr, len(args))
	for i, arg := range args {
		addrs[i] = netip.MustParseAddr(arg)
	}
	return addrs
}

// view is what a process sees of the world inside.
type view struct {
	Inside   bool
	Args     []string
	Layout   paths.Layout
	Blocked  []string // addresses that can't be reached from here
	NetNS    string
	UIDMap   string
	Links    []string
	Route    bool   // is there a default route
	Forward  string // error of switching forwarding on
	Group    string // error of opening a file that only a group may
	LockOpen bool
	Problems []string
}

func look() view {
	v := view{Inside: Inside(), Args: os.Args[1:], Route: hasDefaultRoute(), Blocked: blocked()}
	v.Layout, _ = paths.FromEnv()
	v.Problems = Problems(v.Layout)
	v.NetNS, _ = os.Readlink("/proc/self/ns/net")
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	v.UIDMap = strings.Join(strings.Fields(string(uidMap)), " ")
	dev, _ := os.ReadFile("/proc/net/dev")
	for line := range strings.Lines(string(dev)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			v.Links = append(v.Links, strings.TrimSpace(name))
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		v.Forward = err.Error()
	}
	if path := os.Getenv("BANGER_TEST_GROUP_FILE"); path != "" {
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err != nil {
			v.Group = err.Error()
		} else {
			_ = f.Close()
		}
	}
	_, err := os.Stat("/proc/self/fd/" + strconv.Itoa(lockFD))
	v.LockOpen = err == nil
	return v
}

// plainUser is somebody who can run programs as bangerd's plain user.
type plainUser struct {
	t      *testing.T
	exe    string
	layout paths.Layout
	env    []string
	cred   *syscall.Credential
	stderr *os.File // not a pipe, the end of which would not come before a keeper's
}

// testGroup is a supplementary group that has no name and isn't mapped inside.
const testGroup = 54321

// newPlainUser finds a user with subordinate ids: whoever runs the test, or if
// that is root, any.
func newPlainUser(t *testing.T) *plainUser {
	t.Helper()
	// Not t.TempDir: another user must get there, with short paths for sockets.
	dir, err := os.MkdirTemp("", "rootless")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	u := &plainUser{t: t, exe: filepath.Join(dir, "bangerd")}
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), copyProgram(u.exe)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		u.become(someUser(t), dir, home)
	}
	if u.stderr, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.stderr.Close() })
	u.env = append(u.env, "HOME="+home, "BANGER_HOME="+home, "PATH="+os.Getenv("PATH"), "GOCOVERDIR="+os.Getenv("GOCOVERDIR"))
	u.layout = paths.Layout{
		Config: home + "/config", State: home + "/state", Data: home + "/share", Cache: home + "/cache", Runtime: home + "/run",
	}
	return u
}

// become makes programs run as another user, with a supplementary group that
// alone may open a certain file.
func (u *plainUser) become(other *user.User, dir, home string) {
	u.t.Helper()
	uid, err1 := strconv.Atoi(other.Uid)
	gid, err2 := strconv.Atoi(other.Gid)
	file := filepath.Join(dir, "group-file")
	err := errors.Join(err1, err2, os.Chown(home, uid, gid),
		os.WriteFile(file, nil, 0o600), os.Chown(file, 0, testGroup), os.Chmod(file, 0o060))
	if err != nil {
		u.t.Fatal(err)
	}
	u.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid), testGroup}}
	u.env = append(u.env, "BANGER_TEST_GROUP_FILE="+file)
}

func someUser(t *testing.T) *user.User {
	t.Helper()
	f, err := os.Open(subUIDFile)
	if err == nil {
		defer f.Close()
		for _, r := range parseRanges(f) {
			if u, err := user.Lookup(r.owner); err == nil && u.Uid != "0" && r.count >= minIDs {
				return u
			}
		}
	}
	t.Skip("SKIPPED: root, and no user with subordinate ids to become")
	return nil
}

func copyProgram(to string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func (u *plainUser) command(role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(u.t.Context(), u.exe, args...)
	cmd.Env = append(slices.Clone(u.env), roleVariable+"="+role)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: u.cred}
	cmd.Stderr = u.stderr
	return cmd
}

// inside is a program that enters without Enter.
func (u *plainUser) inside(holder process, arg string) *exec.Cmd {
	cmd := u.command(arg)
	cmd.Path = "/usr/bin/nsenter"
	cmd.Args = slices.Concat([]string{"nsenter"}, nsenterArgs(holder.PID), []string{u.exe, arg})
	return cmd
}

// log is what all programs have said.
func (u *plainUser) log() string {
	u.t.Helper()
	data, err := os.ReadFile(u.stderr.Name())
	if err != nil {
		u.t.Fatal(err)
	}
	return string(data)
}

// enter runs the program inside and returns what it sees.
func (u *plainUser) enter(args ...string) view {
	u.t.Helper()
	cmd := u.command("enter", args...)
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatalf("enter: %v\n%s", err, u.log())
	}
	var v view
	if err := json.Unmarshal(out, &v); err != nil {
		u.t.Fatalf("%v: %s", err, out)
	}
	return v
}

// endAtCleanup ends the namespaces whatever is in them.
func (u *plainUser) endAtCleanup() {
	u.t.Cleanup(func() {
		if err := u.state().end(context.Background()); err != nil {
			u.t.Error(err)
		}
	})
}

func (u *plainUser) release() {
	u.t.Helper()
	if err := u.command("release").Run(); err != nil {
		u.t.Fatalf("release: %v\n%s", err, u.log())
	}
}

func (u *plainUser) state() state {
	u.t.Helper()
	s, err := loadState(u.layout)
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

// needNamespaces skips where the host lacks what it takes, and says what.
func needNamespaces(t *testing.T) {
	t.Helper()
	for _, f := range Check(t.Context()) {
		own := f.Name != subUIDFile && f.Name != subGIDFile || os.Geteuid() != 0
		if !f.OK && own {
			t.Skipf("SKIPPED: no namespaces for plain users here: %s: %s (%s)", f.Name, f.Detail, f.Fix)
		}
	}
	if f, err := os.Stat("/dev/net/tun"); err == nil && f.Mode().Perm()&0o006 != 0o006 {
		t.Skip("SKIPPED: plain users can't open /dev/net/tun here")
	}
	if !hasDefaultRoute() {
		t.Skip("SKIPPED: the host is in no network")
	}
}

func TestEnterAndRelease(t *testing.T) {
	needNamespaces(t)
	u := newPlainUser(t)
	u.endAtCleanup() // whatever fails below

	v := u.enter("--flag", "two words")
	first := u.state()
	if !v.Inside || !slices.Equal(v.Args, []string{"--flag", "two words"}) || v.Layout != u.layout || v.LockOpen {
		t.Errorf("inside %v, arguments %q, lock open %v, layout %+v", v.Inside, v.Args, v.LockOpen, v.Layout)
	}
	if f := strings.Fields(v.UIDMap); len(f) != 6 || f[0] != "0" || f[2] != "1" || f[3] != "1" || len(f[5]) < 5 {
		t.Errorf("uid map: %s", v.UIDMap)
	}
	if !v.Route || v.Forward != "" || v.Group != "" || !slices.Contains(v.Links, "lo") {
		t.Errorf("default route %v, forwarding: %q, group's file: %q, links %v", v.Route, v.Forward, v.Group, v.Links)
	}
	if host, err := os.Readlink("/proc/self/ns/net"); err != nil || host == v.NetNS {
		t.Errorf("still in the host's network namespace %s", host)
	}
	if want, err := hostAddrs(); err != nil || len(want) == 0 || !slices.Equal(v.Blocked, sorted(want)) {
		t.Errorf("of the host's addresses %v these can't be reached: %v, %v", want, v.Blocked, err)
	}
	if len(v.Problems) > 0 {
		t.Errorf("problems: %q", v.Problems)
	}

	again, second := u.enter(), u.state()
	if again.NetNS != v.NetNS || second.Holder != first.Holder || second.Pasta != first.Pasta {
		t.Errorf("the second time: other namespaces, %+v, before %+v", second, first)
	}
	if first.Keeper.alive() || !second.Keeper.alive() {
		t.Errorf("keepers: the first alive %v, the second %v", first.Keeper.alive(), second.Keeper.alive())
	}

	failing := u.command("enter")
	failing.Env = append(failing.Env, noKeeperVariable+"=1")
	if failing.Run() == nil {
		t.Error("entered without a keeper")
	}
	if s := u.state(); s != second || !s.Keeper.alive() {
		t.Errorf("after a start that failed: %+v, keeper alive: %v; before %+v", s, s.Keeper.alive(), second)
	}

	// Both at once, or the keeper would start pasta again by itself.
	if err := errors.Join(second.Keeper.end(t.Context()), second.Pasta.end(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := Problems(u.layout); len(got) != 2 {
		t.Errorf("problems without pasta and keeper: %q", got)
	}
	mended := u.enter()
	if s := u.state(); mended.NetNS != v.NetNS || !mended.Route || s.Holder != first.Holder || s.Pasta == first.Pasta || len(mended.Problems) > 0 {
		t.Errorf("after pasta's death: route %v, problems %q, %+v, before %+v", mended.Route, mended.Problems, s, first)
	}

	if err := u.state().Holder.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := u.state()
	if fresh := u.enter(); fresh.NetNS == v.NetNS || !fresh.Route || old.Pasta.alive() || old.Keeper.alive() {
		t.Errorf("after the holder's death: same namespaces %v, route %v, old pasta alive %v, old keeper %v",
			fresh.NetNS == v.NetNS, fresh.Route, old.Pasta.alive(), old.Keeper.alive())
	}
	checkRelease(t, u)
}

func checkRelease(t *testing.T, u *plainUser) {
	t.Helper()
	guest := u.command("stay")
	stdin, err := guest.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := guest.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	s := u.state()
	u.release()
	now := u.state() // with the keeper of what called Release
	if !s.Holder.alive() || !s.Pasta.alive() || !now.Keeper.alive() || now.Holder != s.Holder || now.Pasta != s.Pasta {
		t.Errorf("the namespaces were given up under a VM")
	}
	_ = stdin.Close()
	if err := guest.Wait(); err != nil {
		t.Error(err)
	}

	u.release()
	if s.Holder.alive() || s.Pasta.alive() || now.Keeper.alive() {
		t.Errorf("left: holder %v, pasta %v, keeper %v", s.Holder.alive(), s.Pasta.alive(), now.Keeper.alive())
	}
	if _, err := os.Stat(u.layout.NamespaceHolder()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state file is still there: %v", err)
	}
}

func TestEnterAtTheSameTime(t *testing.T) {
	needNamespaces(t)
	u := newPlainUser(t)
	u.endAtCleanup()
	const n = 4
	type result struct {
		out []byte
		err error
	}
	results := make(chan result, n)
	for range n {
		cmd := u.command("enter")
		go func() {
			out, err := cmd.Output()
			results <- result{out, err}
		}()
	}
	seen := map[string]bool{}
	for range n {
		r := <-results
		var v view
		if err := errors.Join(r.err, json.Unmarshal(r.out, &v)); err != nil {
			t.Fatalf("%v: %s", err, r.out)
		}
		seen[v.NetNS] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d processes are in %d network namespaces", n, len(seen))
	}
	u.release()
}
