// Command fuzz runs the fuzz targets of the module one after the other, each
// for so much processor time, and prints a line for each. It yields to whatever
// else the machine does.
//
//	go run ./test/fuzz [-time 10m] [-run PATTERN] [-cache DIR] [PACKAGE...]
//
// What it comes up with stays in the cache's directory for the next run. An
// input that fails is written below the package's testdata/fuzz, as by go test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxMemory bounds each process: what a parser may be made to take is less.
const maxMemory = 4 << 30

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	each := flags.Duration("time", 10*time.Minute, "processor time for each target")
	pattern := flags.String("run", "", "only targets, written PACKAGE/NAME, that this regular expression finds")
	cache := flags.String("cache", "", "directory for what is found to be of interest; default: nothing is kept")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*pattern)
	if err != nil {
		return err
	}
	if err := beModest(); err != nil {
		return err
	}
	packages, err := findTargets(ctx, flags.Args(), wanted)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "banger-fuzz-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if *cache == "" {
		*cache = filepath.Join(work, "cache")
	}
	r := &runner{each: *each, work: work, cache: *cache, out: out}
	for _, p := range packages {
		if err := r.all(ctx, p); err != nil {
			return err
		}
	}
	if len(r.failed) > 0 {
		return fmt.Errorf("%d of %d targets failed: %s", len(r.failed), r.ran, strings.Join(r.failed, ", "))
	}
	if r.ran == 0 {
		return errors.New("there is no such target")
	}
	return nil
}

// beModest gives this process and its children what nobody else wants.
func beModest() error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	limit := unix.Rlimit{Cur: maxMemory, Max: maxMemory}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("limit the memory: %w", err)
	}
	return nil
}
