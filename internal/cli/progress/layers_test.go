package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

const mib = 1 << 20

// layer is one event of a layer of 100 MiB.
func layer(n int, done int64, finished bool) api.Progress {
	name := fmt.Sprintf("layer-%012d", n)
	return api.Progress{Phase: name, Title: name, Done: done * mib, Total: 100 * mib, Unit: "bytes", Finished: finished}
}

func TestPlainSumsUpLayers(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	d := newPlain(&out, func() time.Time { return now })
	send := func(after time.Duration, p api.Progress) {
		now = now.Add(after)
		d.Progress(p)
	}
	pull := api.Progress{Phase: "pull", Title: "pulling"} // all the time
	send(0, pull)
	send(0, layer(1, 0, false))
	send(0, pull)
	send(0, layer(2, 0, false))
	send(time.Second, layer(1, 50, false))
	send(0, layer(2, 10, false)) // too soon for another line
	send(time.Second, layer(1, 100, true))
	send(0, layer(2, 100, true)) // all that have begun are complete
	send(0, pull)
	send(0, layer(3, 0, false))
	send(8*time.Second, layer(3, 30, false))
	send(time.Second, layer(3, 100, true))
	send(0, api.Progress{Phase: "flatten", Title: "flattening"})
	send(time.Second, api.Progress{Phase: "flatten", Title: "flattening", Finished: true, Millis: 1000})
	d.Close()
	want := `layers: 50 MiB, 0 done, 2 under way
pulling: still going on
layers: 300 MiB, 3 done, 0 under way
3 layers, 300 MiB: done in 11s
flattening: done in 1s
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestPlainLayersThatFailed: all phases end, but not all layers are complete.
func TestPlainLayersThatFailed(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	d := newPlain(&out, func() time.Time { return now })
	d.Progress(layer(1, 0, false))
	d.Progress(layer(2, 0, false))
	now = now.Add(time.Minute)
	d.Progress(layer(1, 100, true))
	d.Progress(layer(2, 10, true))
	d.Close()
	if strings.Contains(out.String(), "done in") {
		t.Errorf("a failed pull is said to be done:\n%s", out.String())
	}
}

// TestPlainIsNeverSilentForLong: of a phase that only begins and ends there is
// a line in every minute.
func TestPlainIsNeverSilentForLong(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	d := newPlain(&out, func() time.Time { return now })
	d.Progress(api.Progress{Phase: "boot", Title: "booting"})
	for range 100 {
		now = now.Add(time.Second)
		d.tick()
	}
	d.Progress(api.Progress{Phase: "boot", Title: "booting", Finished: true, Millis: 100_000})
	d.tick()
	d.Close()
	want := strings.Repeat("booting: still going on\n", 4) + "booting: done in 1m40s\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestBarsOfLayers(t *testing.T) {
	tty, s := newScreen(t, 70)
	d := New(tty, true, time.Now)
	has := func(line string, parts ...string) bool {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				return false
			}
		}
		return true
	}

	for n := 1; n <= 3; n++ {
		d.Progress(layer(n, 0, false))
	}
	d.Progress(layer(2, 50, false))
	s.waitFor(t, "a line for all layers and a bar for each", func(lines []string) bool {
		return len(lines) == 4 && has(lines[0], "layers", "50 MiB", "0 done, 3 under way") &&
			has(lines[1], "layer-000000000001") && has(lines[2], "layer-000000000002", "[==", "50 MiB of 100") &&
			has(lines[3], "layer-000000000003")
	})
	d.Progress(layer(2, 100, true))
	d.Progress(layer(4, 0, false))
	s.waitFor(t, "the bar of a finished layer gone", func(lines []string) bool {
		return len(lines) == 4 && has(lines[0], "1 done, 3 under way") && has(lines[3], "layer-000000000004") &&
			!strings.Contains(strings.Join(lines, "\n"), "layer-000000000002")
	})
	for _, n := range []int{1, 3, 4} {
		d.Progress(layer(n, 100, true))
	}
	d.Progress(api.Progress{Phase: "flatten", Title: "flattening", Detail: strings.Repeat("long/", 40)})
	s.waitFor(t, "one line for the layers, one for what follows", func(lines []string) bool {
		return len(lines) == 2 && has(lines[0], "✓", "4 layers, 400 MiB") && has(lines[1], "flattening")
	})
	d.Progress(api.Progress{Phase: "flatten", Title: "flattening", Finished: true, Millis: 1500})
	d.Close()
	s.waitFor(t, "the end", func(lines []string) bool {
		return len(lines) == 2 && has(lines[0], "4 layers, 400 MiB") && has(lines[1], "✓", "flattening", "1.5s")
	})
}

// TestBarsOfLayersThatFailed: nothing of them stays on the screen.
func TestBarsOfLayersThatFailed(t *testing.T) {
	tty, s := newScreen(t, 80)
	d := New(tty, true, time.Now)
	d.Progress(layer(1, 10, false))
	d.Progress(layer(2, 20, false))
	s.waitFor(t, "the layers", func(lines []string) bool { return len(lines) == 3 })
	d.Progress(layer(1, 10, true))
	d.Progress(layer(2, 20, true))
	d.Close()
	s.waitFor(t, "nothing", func(lines []string) bool { return len(lines) == 1 && lines[0] == "" })
}
