package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/lockedbuffer"
)

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	d := newPlain(&out, func() time.Time { return now })
	pull := api.Progress{Phase: "pull", Title: "pulling the image", Total: 300 << 20, Unit: "bytes"}
	send := func(after time.Duration, p api.Progress) {
		now = now.Add(after)
		d.Progress(p)
	}
	send(0, pull)
	send(time.Second/2, pull) // too soon for a line
	pull.Done, pull.Detail = 120<<20, "rootfs.ext4"
	send(time.Second/2, pull)
	send(9*time.Second, pull) // too soon for another
	send(0, api.Progress{Phase: "boot", Title: "booting"})
	pull.Done = 240 << 20
	send(time.Second, pull)
	send(0, api.Progress{Phase: "boot", Title: "booting"})
	send(time.Second/2, api.Progress{Phase: "disk", Title: "making the disk", Finished: true, Millis: 999})
	pull.Finished, pull.Millis = true, 21_250
	send(0, pull)
	d.Close()
	send(time.Minute, pull)
	want := `pulling the image: 120 MiB of 300 MiB, rootfs.ext4
pulling the image: 240 MiB of 300 MiB, rootfs.ext4
booting: still going on
pulling the image: done in 21.3s
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestBars(t *testing.T) {
	out := new(lockedbuffer.Buffer)
	d := New(out, true, time.Now)
	waitFor := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never saw %q on the terminal:\n%q", text, out.String())
			}
		}
	}
	d.Progress(api.Progress{Phase: "disk", Title: "making the disk"})
	waitFor("making the disk")
	d.Progress(api.Progress{Phase: "pull", Title: "pulling", Done: 5, Total: 5, Unit: "files"})
	waitFor("5 of 5 files")
	d.Progress(api.Progress{Phase: "pull", Title: "pulling", Done: 5, Total: 5, Unit: "files", Finished: true, Millis: 4200})
	waitFor("4.2s")
	closed := make(chan struct{})
	go func() { d.Close(); d.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for the phase that never finished")
	}
	d.Progress(api.Progress{Phase: "late", Title: "too late"})
	if strings.Contains(out.String(), "too late") {
		t.Error("progress after Close was shown")
	}
}

// TestAmount: no number stands without saying of what.
func TestAmount(t *testing.T) {
	for want, p := range map[string]api.Progress{
		"32%":              {Done: 32, Total: 100, Unit: "percent"},
		"0%":               {Total: 100, Unit: "percent"},
		"5 of 9 files":     {Done: 5, Total: 9, Unit: "files"},
		"1 KiB of 1.5 KiB": {Done: 1024, Total: 1536, Unit: "bytes"},
		"1 KiB":            {Done: 1024, Unit: "bytes"},
		"":                 {},
	} {
		if got := amount(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 20 << 30: "20 GiB", 3 << 40: "3 TiB", 5 << 50: "5120 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 45 * time.Millisecond: "45ms", 3210 * time.Millisecond: "3.2s", 130 * time.Second: "2m10s"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

// A notice is a line of its own, at once, whatever goes on beside it.
func TestNotice(t *testing.T) {
	now := func() time.Time { return time.Unix(0, 0) }
	var plainOut bytes.Buffer
	barsOut := &lockedbuffer.Buffer{}
	for _, d := range []Display{newPlain(&plainOut, now), newBars(barsOut, now)} {
		d.Progress(api.Progress{Phase: "boot", Title: "booting"})
		d.Progress(api.Progress{Notice: "the log-in is not copied"})
		d.Close()
	}
	if plainOut.String() != "the log-in is not copied\n" {
		t.Errorf("got %q", plainOut.String())
	}
	if !strings.Contains(barsOut.String(), "the log-in is not copied\n") {
		t.Errorf("got %q", barsOut.String())
	}
}
