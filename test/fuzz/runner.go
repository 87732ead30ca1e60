package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// runner runs targets.
type runner struct {
	each        time.Duration
	work, cache string
	out         io.Writer
	ran         int
	failed      []string
}

// all runs the targets of a package.
func (r *runner) all(ctx context.Context, p *goPackage) error {
	program := filepath.Join(r.work, strings.ReplaceAll(p.name(), "/", "-")+".test")
	// With -fuzz, so that the program counts what its inputs reach.
	build := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz", ".", "-o", program, p.ImportPath)
	build.Stdout, build.Stderr = r.out, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the tests of %s: %w", p.name(), err)
	}
	defer os.Remove(program)
	for _, name := range p.targets {
		if err := r.target(ctx, p, program, name); err != nil {
			return err
		}
	}
	return nil
}

// slack is added to a run's time: what is there is tried first.
const slack = time.Second

// maxStretch bounds a run by the clock: a target that mostly waits would take
// hours for its processor time.
const maxStretch = 10

// target runs one target until it has had its time. A run's time is that of the
// clock, and others use the processors as well.
func (r *runner) target(ctx context.Context, p *goPackage, program, name string) error {
	start := time.Now()
	var used time.Duration
	var executions int64
	r.ran++
	for used < r.each && time.Since(start) < maxStretch*r.each {
		cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.fuzz", "^"+name+"$",
			"-test.fuzztime", (r.each - used + slack).String(),
			// Looking for shorter inputs that do the same takes most of the
			// time otherwise.
			"-test.fuzzminimizetime", "20x", "-test.parallel", "1",
			"-test.fuzzcachedir", filepath.Join(r.cache, p.ImportPath))
		cmd.Dir = p.Dir
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 10 * time.Second
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		err := cmd.Run()
		executions += countExecutions(output.String())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if err != nil && !endedInTime(output.String()) {
			r.failed = append(r.failed, name)
			r.line("FAIL", p, name, executions, used, start)
			fmt.Fprintf(r.out, "%s\n", output.Bytes())
			return nil
		}
	}
	r.line("ok", p, name, executions, used, start)
	return nil
}

func (r *runner) line(result string, p *goPackage, name string, executions int64, used time.Duration, start time.Time) {
	fmt.Fprintf(r.out, "fuzz %-4s %-30s %-20s %9d executions %8s processor time %8s in all\n",
		result, p.name(), name, executions, used.Round(time.Second), time.Since(start).Round(time.Second))
}

// endedInTime reports whether a run failed only because its time was over while
// an input was still being tried, of which testing makes an error now and then.
func endedInTime(output string) bool {
	return strings.Contains(output, "\n    context deadline exceeded\n") && !strings.Contains(output, "Failing input")
}

var counted = regexp.MustCompile(`execs: (\d+)`)

// countExecutions returns the last count in the output of a run.
func countExecutions(output string) int64 {
	all := counted.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(all[len(all)-1][1], 10, 64)
	return n
}
