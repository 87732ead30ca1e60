// Command skips runs go test and counts the tests that are skipped. It fails if
// one is that the file SKIPS doesn't expect to be on this machine, so that no test
// goes missing unnoticed.
//
//	go run ./test/skips [-list SKIPS] go test [-v] …
//
// What go test prints is printed as it comes: of tests that pass nothing, unless
// -v is among the arguments. A line at least each minute says what runs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// quiet is the longest time without a line.
const quiet = 50 * time.Second

func main() {
	status, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "skips:", err)
	}
	os.Exit(status)
}

// run returns the exit status: go test's own, or 1 if that is 0 and a test was
// skipped unexpectedly.
func run(args []string, out io.Writer) (status int, err error) {
	flags := flag.NewFlagSet("skips", flag.ContinueOnError)
	file := flags.String("list", "SKIPS", "file of the skips that are expected")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	command := flags.Args()
	at := slices.Index(command, "test")
	if at < 1 {
		return 2, errors.New("the command to run is no go test")
	}
	expected, err := readList(*file)
	if err != nil {
		return 2, err
	}
	verbose := slices.Contains(command, "-v")
	command = slices.Insert(slices.Clone(command), at+1, "-json")
	r := newReport(out, verbose)
	if status, err = r.run(command); err != nil {
		return 2, err
	}
	if !r.judge(expected, holds) && status == 0 {
		status = 1
	}
	return status, nil
}

// run runs go test and reports its events. It returns go test's exit status.
func (r *report) run(command []string) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	// A terminal's SIGINT reaches go test as well, and what it leaves is still
	// printed; SIGTERM is for this process alone.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		ticker := time.NewTicker(quiet / 5)
		defer ticker.Stop()
		for {
			select {
			case s := <-signals:
				if s == unix.SIGTERM {
					_ = cmd.Process.Signal(s)
				}
			case <-ticker.C:
				r.heartbeat(quiet)
			case <-done:
				return
			}
		}
	}()
	readErr := r.read(events)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), readErr // -1 after a signal
	}
	return 0, errors.Join(err, readErr)
}
