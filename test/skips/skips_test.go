package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// on is a machine on which some conditions hold.
func on(conditions ...string) func(string) bool {
	return func(c string) bool {
		return c == sometimes || strings.Contains(strings.Join(conditions, " "), c)
	}
}

func list(t *testing.T, text string) []expectation {
	t.Helper()
	l, err := parseList(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// events are what go test -json says of a package with tests that pass, fail
// and are skipped, one of them as a subtest.
const events = `{"Action":"start","Package":"m/a/b"}
{"Action":"run","Package":"m/a/b","Test":"TestGood"}
{"Action":"output","Package":"m/a/b","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"m/a/b","Test":"TestGood","Output":"    a_test.go:1: chatter\n"}
{"Action":"output","Package":"m/a/b","Test":"TestGood","Output":"--- PASS: TestGood (0.00s)\n"}
{"Action":"pass","Package":"m/a/b","Test":"TestGood","Elapsed":0}
{"Action":"run","Package":"m/a/b","Test":"TestModes"}
{"Action":"run","Package":"m/a/b","Test":"TestModes/root"}
{"Action":"output","Package":"m/a/b","Test":"TestModes/root","Output":"    a_test.go:2: needs a kite\n"}
{"Action":"output","Package":"m/a/b","Test":"TestModes/root","Output":"    --- SKIP: TestModes/root (0.00s)\n"}
{"Action":"skip","Package":"m/a/b","Test":"TestModes/root","Elapsed":0}
{"Action":"pass","Package":"m/a/b","Test":"TestModes","Elapsed":0}
{"Action":"run","Package":"m/a/b","Test":"TestBad"}
{"Action":"output","Package":"m/a/b","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"m/a/b","Test":"TestBad","Output":"    a_test.go:3: broken\n"}
{"Action":"output","Package":"m/a/b","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"m/a/b","Test":"TestBad","Elapsed":0}
{"Action":"output","Package":"m/a/b","Output":"FAIL\n"}
{"Action":"output","Package":"m/a/b","Output":"FAIL\tm/a/b\t0.003s\n"}
{"Action":"fail","Package":"m/a/b","Elapsed":0.004}
{"Action":"output","Package":"m/c","Output":"?   \tm/c\t[no test files]\n"}
{"Action":"skip","Package":"m/c","Elapsed":0}
{"ImportPath":"m/d","Action":"build-output","Output":"d.go:1: syntax error\n"}
{"ImportPath":"m/d","Action":"build-fail"}
go: warning of the tool itself
{"Action":"output","Package":"m/e","Output":"PASS\n"}
{"Action":"output","Package":"m/e","Output":"ok  \tm/e\t0.1s\n"}
{"Action":"pass","Package":"m/e","Elapsed":0.1}
`

func TestPlainOutput(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, false)
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	want := "    a_test.go:3: broken\n--- FAIL: TestBad (0.00s)\nFAIL\nFAIL\tm/a/b\t0.003s\n?   \tm/c\t[no test files]\n" +
		"d.go:1: syntax error\ngo: warning of the tool itself\nok  \tm/e\t0.1s\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	if len(r.running)+len(r.kept)+len(r.said) > 0 {
		t.Errorf("it remembers %v, %v, %v", r.running, r.kept, r.said)
	}
}

func TestVerboseOutput(t *testing.T) {
	var out bytes.Buffer
	if err := newReport(&out, true).read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"=== RUN   TestGood\n", "chatter\n", "needs a kite\n", "--- PASS: TestGood (0.00s)\n", "broken\n", "PASS\nok"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

// A program that ends in the middle of a test says why.
func TestOutputOfAPanic(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, false)
	err := r.read(strings.NewReader(`{"Action":"run","Package":"m","Test":"TestX"}
{"Action":"run","Package":"m","Test":"TestX/sub"}
{"Action":"output","Package":"m","Test":"TestX/sub","Output":"panic: oh no\n"}
{"Action":"fail","Package":"m","Elapsed":0.1}
`))
	if err != nil || out.String() != "panic: oh no\n" || len(r.running) > 0 {
		t.Errorf("%q, %v, %v", out.String(), r.running, err)
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		list, machine string
		ok            bool
		want          string
	}{
		"nothing expected":   {"", "", false, "UNEXPECTED m/a/b:TestModes/root: a_test.go:2: needs a kite\n"},
		"expected":           {"a/b:TestModes no-kvm it flies", "no-kvm", true, "1 tests skipped:\n  m/a/b:TestModes/root: it flies\n"},
		"one of two":         {"a/b:TestModes/* no-kvm,not-root it flies", "not-root", true, "it flies"},
		"by its package":     {"a/*:* no-kvm it flies", "no-kvm", true, "it flies"},
		"another machine":    {"a/b:TestModes no-kvm it flies", "not-root", false, "UNEXPECTED"},
		"another subtest":    {"a/b:TestModes/user no-kvm it flies", "no-kvm", false, "UNEXPECTED"},
		"another package":    {"b/b:TestModes no-kvm it flies", "no-kvm", false, "UNEXPECTED"},
		"sometimes":          {"a/b:Test* sometimes wind", "", true, "wind"},
		"it ran":             {"a/b:TestModes no-kvm x\na/b:TestGood no-kvm dull", "no-kvm", true, "line 2: a/b:TestGood is expected to be skipped (dull), but ran\n"},
		"it needn't have":    {"a/b:TestModes no-kvm it flies\na/b:TestGood no-tun dull", "no-kvm", true, "it flies\n"},
		"some of a pattern":  {"a/b:* no-kvm it flies", "no-kvm", true, "it flies\n"},
		"it runs, sometimes": {"a/b:TestModes no-kvm it flies\na/b:TestGood sometimes dull", "no-kvm", true, "it flies\n"},
	} {
		var out bytes.Buffer
		r := newReport(&out, false)
		if err := r.read(strings.NewReader(events)); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		ok := r.judge(list(t, c.list), on(c.machine))
		if ok != c.ok || !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), "warning") != strings.Contains(c.want, "but ran") {
			t.Errorf("%s: %v\n%s", name, ok, &out)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, false)
	r.heartbeat(time.Hour)
	if out.Len() > 0 {
		t.Errorf("too early: %s", &out)
	}
	r.heartbeat(0)
	r.take(event{Action: "run", Package: "m", Test: "TestX"})
	r.heartbeat(0)
	if got := out.String(); got != "still running: building\nstill running: m:TestX (0s)\n" {
		t.Errorf("got %q", got)
	}
}

func TestBadLists(t *testing.T) {
	for _, text := range []string{"a:T", "a no-kvm x", "a:T no-wings x", "a:[ no-kvm x"} {
		if _, err := parseList(strings.NewReader("# comment\n\n" + text)); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The project's own list, and each condition here, whatever the answer.
func TestOwnList(t *testing.T) {
	own, err := readList("../../SKIPS")
	if err != nil || len(own) == 0 {
		t.Fatalf("%d lines, %v", len(own), err)
	}
	for c := range conditions {
		t.Logf("%s: %v", c, holds(c))
	}
}

// module makes a module with a test of each kind, as far as wanted.
func module(t *testing.T, tests string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n", "SKIPS": "p:TestSkipped sometimes no reason\n",
		"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) {}\n" + tests,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// The exit status is what make sees.
func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		tests  string
		status int
		want   string
	}{
		"good":       {"", 0, "ok  "},
		"failing":    {"func TestBad(t *testing.T) { t.Fatal(\"broken\") }\n", 1, "broken"},
		"skipped":    {"func TestSkipped(t *testing.T) { t.Skip(\"why\") }\n", 0, "example/p:TestSkipped: no reason"},
		"unexpected": {"func TestOther(t *testing.T) { t.Skip(\"why\") }\n", 1, "UNEXPECTED example/p:TestOther: p_test.go:6: why"},
		"no Go":      {"func", 1, "[setup failed]"},
	} {
		t.Run(name, func(t *testing.T) {
			module(t, c.tests)
			var out bytes.Buffer
			status, err := run([]string{"go", "test", "./..."}, &out)
			if err != nil || status != c.status || !strings.Contains(out.String(), c.want) {
				t.Errorf("status %d, %v\n%s", status, err, &out)
			}
		})
	}
	if status, err := run([]string{"-list", "none", "go", "test"}, &bytes.Buffer{}); status != 2 || err == nil {
		t.Errorf("without a list: %d, %v", status, err)
	}
	if status, err := run([]string{"-list", "../../SKIPS", "go", "vet"}, &bytes.Buffer{}); status != 2 || err == nil {
		t.Errorf("another command: %d, %v", status, err)
	}
}
