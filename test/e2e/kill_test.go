//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// kills is how many moments are tried.
const kills = 20

// slowly serves at a pace at which a kill finds work under way.
type slowly struct{ http.Handler }

func (s slowly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Handler.ServeHTTP(slowWriter{w}, r)
}

type slowWriter struct{ http.ResponseWriter }

func (w slowWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := w.ResponseWriter.Write(p[:min(len(p), 64<<10)])
		if written += n; err != nil {
			return written, err
		}
		p = p[n:]
		time.Sleep(2 * time.Millisecond) // the pace, about 30 MB/s; nothing is waited for
	}
	return written, nil
}

// job is work on images that a kill interrupts.
type job struct {
	before []string // a command that makes it possible
	args   []string
	makes  string        // the image that it makes
	lasts  time.Duration // when nothing comes in between
}

// TestKilledAtWork kills bangerd at random moments of work on images. Whatever
// it did then, the next bangerd finds a store that works and nothing else.
func TestKilledAtWork(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		ref := h.serveImage(t, makeContainer(t, append(ballast(t), busyboxTree(t)...), v1.Config{}))
		h.must(t, "image", "pull", "--name", "kept", ref)
		h.deleteImage(t, "kept")
		exported, again := filepath.Join(h.scratch, "kept.tar.zst"), filepath.Join(h.scratch, "again.tar.zst")
		h.must(t, "image", "export", "kept", "-o", exported)
		recipe := filepath.Join(h.scratch, "tiny.toml")
		if err := os.WriteFile(recipe, []byte("suite = \"bookworm\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, path := range []string{exported, again, recipe} {
				os.Remove(path)
			}
		})
		url := "http://" + h.serve(t, slowly{http.FileServer(http.Dir(h.scratch))}) + "/kept.tar.zst"

		work := []job{
			{args: []string{"image", "pull", ref}, makes: "app-v1"},
			{args: []string{"image", "pull", "--name", "from-url", url}, makes: "from-url"},
			{args: []string{"image", "import", "--name", "from-file", exported}, makes: "from-file"},
			{args: []string{"image", "export", "--force", "kept", "-o", again}},
			{before: []string{"image", "import", "--name", "gone", exported}, args: []string{"image", "delete", "gone"}},
			{args: []string{"image", "build", recipe}, makes: "tiny"},
		}
		for i := range work {
			work[i].lasts = h.timed(t, work[i])
		}
		interrupted := 0
		for n := range kills {
			if h.killDuring(t, work[n%len(work)]) {
				interrupted++
			}
			h.checkStore(t)
		}
		t.Logf("%d of %d kills came in the middle of work", interrupted, kills)
		if interrupted < kills/4 {
			t.Error("too few to tell anything")
		}
		if got := h.must(t, "vm", "run", "--rm", "--image", "kept", "--", "echo", "works"); got != "works\n" {
			t.Errorf("got %q", got)
		}
	})
}

// ballast is the beginning of a tar, with a file that takes some time to copy.
func ballast(t *testing.T) []byte {
	t.Helper()
	const size = 96 << 20
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "ballast", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{}), size); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil { // no end mark: more follows
		t.Fatal(err)
	}
	return b.Bytes()
}

// timed does the whole job once and takes its result away.
func (h *host) timed(t *testing.T, j job) time.Duration {
	t.Helper()
	if j.before != nil {
		h.must(t, j.before...)
	}
	h.dropLayers(t)
	start := time.Now()
	h.must(t, j.args...)
	took := time.Since(start)
	if j.makes != "" {
		h.deleteImage(t, j.makes)
		h.must(t, "image", "delete", j.makes)
	}
	return took
}

// dropLayers makes the next pull a whole one.
func (h *host) dropLayers(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(h.home, "cache/oci")); err != nil {
		t.Fatal(err)
	}
}

// killDuring starts a job, kills bangerd after a while, and tells whether that
// came in the middle.
func (h *host) killDuring(t *testing.T, j job) bool {
	t.Helper()
	h.must(t, "daemon", "start")
	if j.makes != "" {
		h.run(t, "image", "delete", j.makes)
	}
	if j.before != nil {
		h.run(t, j.before...)
	}
	h.dropLayers(t)
	pid := h.daemonPID(t)
	cmd := h.command(t.Context(), j.args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	after := time.Duration(rand.Int64N(int64(j.lasts)))
	time.Sleep(after) // the moment is what is tried here
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	t.Logf("killed after %s of %s of banger %s: %v", after, j.lasts, strings.Join(j.args, " "), err)
	return err != nil
}

// checkStore starts bangerd and wants every image to be whole, and nothing
// half-made on the disk.
func (h *host) checkStore(t *testing.T) {
	t.Helper()
	for _, name := range strings.Fields(h.must(t, "image", "list", "-q")) {
		img := h.image(t, name)
		if info, err := os.Stat(img.Rootfs); err != nil || info.Size() != img.SizeBytes {
			t.Errorf("image %s is not whole: %v", name, err)
		}
	}
	if !strings.Contains(h.must(t, "image", "list", "-q"), "kept\n") {
		t.Fatal("an image that nobody touched is gone")
	}
	for _, pattern := range []string{"share/images/.*", "share/kernels/.*", "cache/export-*"} {
		if left, _ := filepath.Glob(filepath.Join(h.home, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.scratch, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left := h.processes(t); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}
