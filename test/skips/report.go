package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is what go test -json prints, `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// id names a test.
type id struct{ pkg, test string }

func (i id) String() string { return i.pkg + ":" + i.test }

// top is the test that a subtest is of.
func (i id) top() id {
	name, _, _ := strings.Cut(i.test, "/")
	return id{i.pkg, name}
}

// report prints what go test does, for people.
type report struct {
	verbose bool

	mu      sync.Mutex
	out     io.Writer
	printed time.Time
	// running are the tests without an end yet, and when they began.
	running map[id]time.Time
	// kept is the output of running tests, by the test at the top.
	kept map[id][]event
	// said is the last line of each running test that isn't go test's own: the
	// reason, if it is skipped.
	said    map[id]string
	ran     []id
	skipped []id
	reasons map[id]string
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{
		out: out, verbose: verbose, printed: time.Now(),
		running: make(map[id]time.Time), kept: make(map[id][]event), said: make(map[id]string), reasons: make(map[id]string),
	}
}

// read takes the output of go test -json. What is no event is printed as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil || e.Action == "":
			r.print(line)
		default:
			r.take(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	test := id{e.Package, e.Test}
	if e.Test == "" {
		r.takePackage(e)
		return
	}
	switch e.Action {
	case "run", "cont":
		r.running[test] = time.Now()
	case "pause": // until those before it have ended
		delete(r.running, test)
	case "output":
		if !isFrame(e.Output) {
			r.said[test] = strings.TrimSpace(e.Output)
		}
		if r.verbose {
			r.write(e.Output)
			return
		}
		r.kept[test.top()] = append(r.kept[test.top()], e)
	case "skip":
		r.skipped = append(r.skipped, test)
		r.reasons[test] = r.said[test]
		r.end(test)
	case "pass", "fail":
		r.ran = append(r.ran, test)
		if e.Action == "fail" && test == test.top() {
			r.tell(test)
		}
		r.end(test)
	}
}

// end forgets a test that has ended.
func (r *report) end(test id) {
	delete(r.running, test)
	delete(r.said, test)
	if test == test.top() {
		delete(r.kept, test)
	}
}

// takePackage takes an event of a package as a whole, or of a build.
func (r *report) takePackage(e event) {
	switch e.Action {
	case "output", "build-output":
		if r.verbose || e.Output != "PASS\n" {
			r.write(e.Output)
		}
	case "fail": // perhaps in the middle of tests
		for test := range r.kept {
			if test.pkg == e.Package {
				r.tell(test)
			}
		}
		fallthrough
	case "pass", "skip":
		for test := range r.running {
			if test.pkg == e.Package {
				r.end(test)
			}
		}
	}
}

// tell prints what was kept of a test that failed.
func (r *report) tell(test id) {
	for _, e := range r.kept[test] {
		if !strings.HasPrefix(e.Output, "=== ") {
			r.write(e.Output)
		}
	}
	delete(r.kept, test)
}

// isFrame recognizes the lines that go test puts around a test's own.
func isFrame(line string) bool {
	line = strings.TrimLeft(line, " ")
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ")
}

func (r *report) print(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(text)
}

// write must be called with mu held.
func (r *report) write(text string) {
	_, _ = io.WriteString(r.out, text)
	r.printed = time.Now()
}

// heartbeat says what runs, if nothing was printed for so long.
func (r *report) heartbeat(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.printed) < after {
		return
	}
	var names []string
	for test, since := range r.running {
		names = append(names, fmt.Sprintf("%s (%s)", test, time.Since(since).Round(time.Second)))
	}
	slices.Sort(names)
	const most = 4
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	if len(names) == 0 {
		names = []string{"building"}
	}
	r.write("still running: " + strings.Join(names, ", ") + "\n")
}
