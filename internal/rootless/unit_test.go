package rootless

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/paths"
	"banger/internal/procid"
)

func TestProcessIsMoreThanAPID(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	p, err := identify(sleeper.Process.Pid)
	if err != nil || !p.alive() {
		t.Fatalf("a running process: %+v, %v", p, err)
	}

	recycled := process{p.PID, p.StartTime - 1}
	if recycled.alive() {
		t.Error("another process of the same pid counts as alive")
	}
	if err := recycled.end(t.Context()); err != nil || !p.alive() {
		t.Errorf("end of a recycled pid hit the wrong process: %v", err)
	}
	if (process{}).alive() {
		t.Error("no process counts as alive")
	}

	if err := p.end(t.Context()); err != nil || p.alive() {
		t.Errorf("end: %v, alive %v", err, p.alive())
	}
	if err := p.end(t.Context()); err != nil {
		t.Errorf("end again: %v", err)
	}
}

func TestEndOfAStubbornProcess(t *testing.T) {
	ready, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo; while :; do sleep 60; done")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.end(t.Context()); err != nil || p.alive() {
		t.Errorf("end: %v, alive %v", err, p.alive())
	}
}

func TestZombieIsNotAlive(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	// Waits for the end, but leaves the zombie.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if p, err := identify(cmd.Process.Pid); !errors.Is(err, procid.ErrGone) {
		t.Errorf("a process that ended: %+v, %v", p, err)
	}
}

func TestStateSurvivesGarbage(t *testing.T) {
	layout := paths.Layout{Runtime: t.TempDir()}
	check := func(want state) {
		t.Helper()
		if got, err := loadState(layout); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	check(state{})
	saved := state{Holder: process{1, 2}, Pasta: process{3, 4}, Keeper: process{5, 6}, Forwards: true}
	if err := saved.save(layout); err != nil {
		t.Fatal(err)
	}
	check(saved)
	if err := os.WriteFile(layout.NamespaceHolder(), []byte(`{"holder": {"pid": 17, "st`), 0o600); err != nil {
		t.Fatal(err)
	}
	check(state{})
}

func TestParseRanges(t *testing.T) {
	const file = "root:100000:65536\n\n# dev:1:2\ndev:165536:65536\n1001:500000:1000\nbroken:x:1\ndev:4000000000:9999999999\n"
	got := parseRanges(strings.NewReader(file))
	want := []ownedRange{
		{idRange{100000, 65536}, "root"}, {idRange{1, 2}, "# dev"},
		{idRange{165536, 65536}, "dev"}, {idRange{500000, 1000}, "1001"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	path := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := nextFree(path); got != 501000 {
		t.Errorf("next free id is %d", got)
	}
	for owner, want := range map[string]idRange{"dev": {165536, 65536}, "1001": {500000, 1000}, "nobody": {}} {
		if got := largest(got, []string{"7", owner}); got != want {
			t.Errorf("%s has %v, want %v", owner, got, want)
		}
	}
}

func TestTranslateResolvConf(t *testing.T) {
	const own = ownHeader + "nameserver 169.254.1.1\n"
	tests := map[string]struct{ host, want string }{
		"systemd-resolved": {"# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan", own + "options edns0 trust-ad\nsearch lan\n"},
		"IPv6 loopback":    {"nameserver ::1\n", own},
		"a real server":    {"nameserver 192.0.2.1\n", ""},
		"one of each":      {"nameserver 127.0.0.1\nnameserver 192.0.2.1\n", ""},
		"nothing":          {"", ""},
		"comment only":     {"# nameserver 127.0.0.1\n;nameserver 127.0.0.1\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := translate(tt.host); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLayoutIsTheSameInside(t *testing.T) {
	t.Chdir(t.TempDir())
	tests := map[string]map[string]string{
		"home":              {"HOME": "/home/u"},
		"XDG":               {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s"},
		"BANGER_HOME":       {"BANGER_HOME": "/b"},
		"relative":          {"BANGER_HOME": "b"},
		"overridden before": {"HOME": "/home/u", paths.RuntimeDirVariable: "/elsewhere/"},
	}
	for name, vars := range tests {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"HOME", "BANGER_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", paths.RuntimeDirVariable} {
				t.Setenv(v, vars[v])
			}
			outside, err := paths.FromEnv()
			if err != nil {
				t.Fatal(err)
			}
			env, err := environ(outside, state{})
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, entry := range env {
				key, value, _ := strings.Cut(entry, "=")
				if seen[key] {
					t.Errorf("%s is set twice", key)
				}
				seen[key] = true
				t.Setenv(key, value)
			}
			t.Chdir("/")
			if inside, err := paths.FromEnv(); err != nil || inside != outside {
				t.Errorf("inside %+v, %v\noutside %+v", inside, err, outside)
			}
		})
	}
}
