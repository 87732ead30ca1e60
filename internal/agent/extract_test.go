package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/conntest"
	"banger/internal/guest"
)

func newTestWorker() *worker {
	return &worker{log: slog.New(slog.DiscardHandler), version: "v1", readiness: watchBoot(false, nil, nil)}
}

// dialWorker returns a client whose calls are answered by a worker in this
// process.
func dialWorker(t *testing.T) *guest.Client {
	t.Helper()
	return dialTestWorker(t, newTestWorker())
}

func dialTestWorker(t *testing.T, w *worker) *guest.Client {
	t.Helper()
	dial := conntest.ServeUnix(t, w.serve)
	return guest.NewClient(func(ctx context.Context, _ uint32) (guest.Conn, error) { return dial(ctx) })
}

type entry struct {
	tar.Header
	content string
}

var entryTime = time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)

func tarOf(t *testing.T, entries ...entry) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		e.Format = tar.FormatPAX
		if e.ModTime.IsZero() {
			e.ModTime = entryTime
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func dir(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750}, ""}
}

func link(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}, ""}
}

func holed(name string, size int64, pieces ...guest.Segment) entry {
	e := file(name, "")
	for _, p := range pieces {
		e.content += strings.Repeat("x", int(p.Length))
	}
	e.PAXRecords = map[string]string{guest.SparseRecord: guest.FormatSparse(size, pieces)}
	return e
}

func hardLink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, ""}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExtract(t *testing.T) {
	top := filepath.Join(t.TempDir(), "new", "repo")
	long := strings.Repeat("long/", 60) + "name"
	run := file("bin/run", "#!/bin/sh\n")
	run.Mode = 0o4755
	err := dialWorker(t).Extract(t.Context(), guest.ExtractParams{Path: top}, tarOf(t,
		dir("./"), dir("d/"), run, file("d/\xff\xfe bytes\n", "x"), file(long, "y"),
		link("d/link", "../nowhere"), hardLink("twin", "bin/run"), file("twice", "old"), file("twice", "new"),
	))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(top, "d/\xff\xfe bytes\n")) + read(t, filepath.Join(top, long)) + read(t, filepath.Join(top, "twice")); got != "xynew" {
		t.Errorf("contents are %q", got)
	}
	for name, mode := range map[string]fs.FileMode{"bin/run": 0o755, "d": fs.ModeDir | 0o750, "d/link": fs.ModeSymlink | 0o777} {
		info, err := os.Lstat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode || !info.ModTime().Equal(entryTime) {
			t.Errorf("%s has mode %v and time %v", name, info.Mode(), info.ModTime())
		}
	}
	a, errA := os.Stat(filepath.Join(top, "bin/run"))
	b, errB := os.Stat(filepath.Join(top, "twin"))
	if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
		t.Errorf("a hard link became another file (%v)", err)
	}
}

func TestExtractNeverLeavesItsDirectory(t *testing.T) {
	for name, entries := range map[string][]entry{
		"dots":                  {file("../out", "x")},
		"dots inside":           {file("a/../../out", "x")},
		"symlink up":            {link("l", ".."), file("l/out", "x")},
		"absolute symlink":      {link("l", "OUTSIDE"), file("l/out", "x")},
		"directory in symlink":  {link("l", "OUTSIDE"), dir("l/out")},
		"symlink to symlink":    {link("a", "OUTSIDE"), link("b", "a"), file("b/out", "x")},
		"hard link to outside":  {hardLink("out2", "../secret"), file("out2", "x")},
		"hard link by symlink":  {link("l", "OUTSIDE"), hardLink("out2", "l/secret")},
		"cached then replaced":  {dir("d"), file("d/a", ""), link("e", "OUTSIDE"), file("e/out", "x")},
		"write through symlink": {link("out2", "OUTSIDE/secret"), file("out2", "changed")},
		"mode through symlink":  {link("out2", "OUTSIDE"), dir("out2")},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			top := filepath.Join(outside, "top")
			secret := filepath.Join(outside, "secret")
			if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(outside, 0o711); err != nil {
				t.Fatal(err)
			}
			for i := range entries {
				entries[i].Linkname = strings.Replace(entries[i].Linkname, "OUTSIDE", outside, 1)
			}
			err := dialWorker(t).Extract(t.Context(), guest.ExtractParams{Path: top}, tarOf(t, entries...))
			t.Log(err)
			found, readErr := os.ReadDir(outside)
			if readErr != nil || len(found) != 2 || read(t, secret) != "secret" {
				t.Errorf("outside are %v now (%v)", found, readErr)
			}
			if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o711 {
				t.Errorf("the mode outside changed (%v)", err)
			}
			if info, err := os.Stat(secret); err != nil || fmt.Sprint(info.Mode()) != "-rw-------" {
				t.Errorf("the file outside changed (%v)", err)
			}
		})
	}
}

// TestExtractKeepsHoles: holes take no room, wherever they are.
func TestExtractKeepsHoles(t *testing.T) {
	const size, at = 64 << 20, 8 << 20
	top := t.TempDir()
	err := dialWorker(t).Extract(t.Context(), guest.ExtractParams{Path: top}, tarOf(t,
		holed("middle", size, guest.Segment{Offset: at, Length: 5}, guest.Segment{Offset: 2 * at, Length: 3}),
		holed("nothing", size), holed("all", 3, guest.Segment{Length: 3}), file("next", "next")))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	copy(want[at:], "xxxxx")
	copy(want[2*at:], "xxx")
	if got := read(t, filepath.Join(top, "middle")); got != string(want) {
		t.Error("the content differs")
	}
	if got := read(t, filepath.Join(top, "all")) + read(t, filepath.Join(top, "next")); got != "xxxnext" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"middle", "nothing"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(top, name), &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
			t.Errorf("%s has %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
	}
	bad := holed("bad", 3, guest.Segment{Length: 4})
	if err := dialWorker(t).Extract(t.Context(), guest.ExtractParams{Path: top}, tarOf(t, bad)); err == nil {
		t.Error("content behind a file's end was unpacked")
	}
}

func TestExtractReportsMistakes(t *testing.T) {
	c := dialWorker(t)
	var remote *guest.RemoteError
	if err := c.Extract(t.Context(), guest.ExtractParams{Path: "relative"}, tarOf(t)); !errors.As(err, &remote) {
		t.Errorf("a relative path: %v", err)
	}
	// The verdict comes although the stream has no end.
	endless := io.MultiReader(tarOf(t, dir("a"), file("a", "x")), zeros{})
	if err := c.Extract(t.Context(), guest.ExtractParams{Path: t.TempDir()}, endless); !errors.As(err, &remote) {
		t.Errorf("a file over a directory: %v", err)
	}
	cut := io.LimitReader(tarOf(t, file("a", strings.Repeat("x", 5000))), 3000)
	if err := c.Extract(t.Context(), guest.ExtractParams{Path: t.TempDir()}, cut); !errors.As(err, &remote) {
		t.Errorf("a cut stream: %v", err)
	}
	broken := io.MultiReader(tarOf(t), errReader{errors.New("disk on fire")})
	if err := c.Extract(t.Context(), guest.ExtractParams{Path: t.TempDir()}, broken); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a source that fails: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestWorkerCalls(t *testing.T) {
	c := dialWorker(t)
	h, err := c.Health(t.Context())
	if err != nil || h.Version != "v1" || h.Stage != guest.StageReady || h.Uptime <= 0 {
		t.Errorf("health: %+v, %v", h, err)
	}
	if r, err := c.Ready(t.Context()); err != nil || r.State != "none" {
		t.Errorf("ready: %+v, %v", r, err)
	}
	var remote *guest.RemoteError
	if _, err := c.Boot(t.Context(), guest.BootConfig{}); !errors.As(err, &remote) {
		t.Errorf("a second boot: %v", err)
	}
}
