package oci

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/image/ext4"
	"banger/internal/image/oci/flatten"

	"github.com/google/go-containerregistry/pkg/authn"
)

// pullVariable makes the test binary pull, as a process of its own:
// "<reference> <cache>".
const pullVariable = "BANGER_TEST_PULL"

// flattenVariable makes the test binary flatten a layer: "<layer> <diff id> <image>".
const flattenVariable = "BANGER_TEST_FLATTEN"

func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv(flattenVariable)); len(args) == 3 {
		if err := flattenTo(args[0], args[1], args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if args := strings.Fields(os.Getenv(pullVariable)); len(args) == 2 {
		_, err := Pull(context.Background(), args[0], Options{
			CacheDir: args[1], Platform: "linux/amd64", Keychain: authn.NewMultiKeychain(),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func flattenTo(layer, diffID, image string) error {
	info, err := os.Stat(layer)
	if err != nil {
		return err
	}
	err = ext4.Create(context.Background(), image, func(w *ext4.Writer) error {
		_, err := flatten.Layers(context.Background(), []flatten.Layer{{Path: layer, DiffID: diffID, Size: info.Size()}}, w, flatten.Options{})
		return err
	}, ext4.Options{})
	if err != nil {
		return err
	}
	// Not from wait(2): that counts what the parent had when it forked.
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(strings.Join(strings.Fields(line), " "))
		}
	}
	return err
}

// pullProcess returns a process that pulls.
func pullProcess(t *testing.T, ref, cache string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), pullVariable+"="+ref+" "+cache)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestProcessesShareTheWork(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 1<<20), randomTar(t, "b", 1<<20)))
	// No blob is answered before every process is there.
	const processes = 3
	manifests := make(chan struct{}, 100)
	check := func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			manifests <- struct{}{}
		}
		return true
	}
	reg.check.Store(&check)
	here := make(chan struct{})
	go func() {
		for range processes {
			<-manifests
		}
		close(here)
	}()
	around := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-here
		next.ServeHTTP(w, r)
	}
	reg.around.Store(&around)
	cache := t.TempDir()
	var running []*exec.Cmd
	for range processes {
		cmd := pullProcess(t, ref, cache)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("pull: %v", err)
		}
	}
	if got := reg.blobs.Load(); got != 3 {
		t.Errorf("%d blobs were fetched, want 3", got)
	}
	assertComplete(t, cache, 3)
}

// A pull that is killed at any moment leaves a cache with which the next one
// succeeds, and nothing else.
func TestKilledPulls(t *testing.T) {
	reg := newTestRegistry(t)
	ref := reg.push(t, "app:1", imageOf(t, "linux/amd64", randomTar(t, "a", 4<<20), randomTar(t, "b", 1<<20)))
	slow := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&slowWriter{w}, r)
	}
	reg.around.Store(&slow)
	cache := t.TempDir()
	for i := range 20 {
		cmd := pullProcess(t, ref, cache)
		cmd.Stderr = nil
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if i%5 == 4 { // also from an empty cache, not only from where the last one stopped
			if err := os.RemoveAll(filepath.Join(cache, "sha256")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := pullFast(t, ref, Options{CacheDir: cache, Platform: "linux/amd64"}); err != nil {
		t.Fatalf("pull after 20 killed ones: %v", err)
	}
	assertComplete(t, cache, 3)
}

// slowWriter sends 64 KiB at a time with pauses.
type slowWriter struct{ http.ResponseWriter }

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		m, err := w.ResponseWriter.Write(p[:min(len(p), 64<<10)])
		n += m
		if err != nil {
			return n, err
		}
		p = p[m:]
		time.Sleep(2 * time.Millisecond)
	}
	return n, nil
}
