// Package progress shows progress events to people: as moving bars on a
// terminal, as plain lines anywhere else.
package progress

import (
	"fmt"
	"io"
	"reflect"
	"time"

	"banger/internal/api"
	"banger/internal/cli/termtext"
)

// Display shows progress. Its methods may be called by several goroutines.
type Display interface {
	// Progress is an api.ProgressFunc.
	Progress(p api.Progress)
	// Close takes away what is unfinished and leaves the cursor at the start
	// of a line. Later progress is ignored.
	Close()
}

// New returns a display on w, with bars if that is a terminal.
func New(w io.Writer, terminal bool, now func() time.Time) Display {
	if terminal {
		return escaping{newBars(w, now)}
	}
	d := newPlain(w, now)
	d.watch()
	return escaping{d}
}

// escaping is a display that shows what a terminal would obey: file names of
// images and the output of builds are among the details. Each text stays in
// its line.
type escaping struct{ Display }

func (d escaping) Progress(p api.Progress) {
	for _, field := range reflect.ValueOf(&p).Elem().Fields() {
		if field.Kind() == reflect.String {
			field.SetString(termtext.Line(field.String()))
		}
	}
	d.Display.Progress(p)
}

// title is what people read of a phase.
func title(p api.Progress) string {
	if p.Title != "" {
		return p.Title
	}
	return p.Phase
}

// amount formats how far a phase is; "" if that isn't known.
func amount(p api.Progress) string {
	switch {
	case p.Unit == "bytes" && p.Total > 0:
		return fmt.Sprintf("%s of %s", Bytes(p.Done), Bytes(p.Total))
	case p.Unit == "bytes" && p.Done > 0:
		return Bytes(p.Done)
	case p.Unit == "percent":
		return fmt.Sprintf("%d%%", p.Done)
	case p.Total > 0:
		return trimUnit(fmt.Sprintf("%d of %d", p.Done, p.Total), p.Unit)
	case p.Done > 0:
		return trimUnit(fmt.Sprintf("%d", p.Done), p.Unit)
	}
	return ""
}

func trimUnit(number, unit string) string {
	if unit == "" {
		return number
	}
	return number + " " + unit
}

// Bytes formats a number of bytes with a binary unit and at most one decimal:
// 512 B, 1.5 MiB, 20 GiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		value /= 1024
		if value < 1024 {
			break
		}
	}
	text := fmt.Sprintf("%.1f", value)
	if text[len(text)-2:] == ".0" {
		text = text[:len(text)-2]
	}
	return text + " " + unit
}

// Duration formats how long something took, to about two digits: 45ms, 3.2s,
// 2m10s.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
