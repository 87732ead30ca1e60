package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/cli/termtext"
	"banger/internal/setup"
)

// fakeRelease serves a release whose programs are shell scripts that tell
// their version, and returns it with its mirror's address.
func fakeRelease(t *testing.T, version, says string) (setup.Release, string) {
	t.Helper()
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	w := tar.NewWriter(zipped)
	for _, program := range []string{"firecracker", "jailer"} {
		script := "#!/bin/sh\necho " + says + "\n"
		name := fmt.Sprintf("release-%s-%s/%s-%s-%s", version, machine, program, version, machine)
		err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(script)), Mode: 0o755})
		if _, writeErr := w.Write([]byte(script)); err != nil || writeErr != nil {
			t.Fatal(err, writeErr)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != fmt.Sprintf("/%s/firecracker-%s-%s.tgz", version, version, machine) {
			http.NotFound(rw, r)
			return
		}
		rw.Write(packed.Bytes())
	}))
	t.Cleanup(server.Close)
	sum := sha256.Sum256(packed.Bytes())
	return setup.Release{Version: version, SHA256: map[string]string{runtime.GOARCH: hex.EncodeToString(sum[:])}}, server.URL
}

func setupEnv(t *testing.T) (e *env, stdout, stderr *bytes.Buffer) {
	t.Helper()
	t.Setenv("BANGER_HOME", t.TempDir())
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &env{
		stdout: termtext.NewWriter(stdout), stderr: termtext.NewWriter(stderr),
		rawStdout: stdout, rawStderr: stderr, now: time.Now,
	}, stdout, stderr
}

func TestSetup(t *testing.T) {
	release, mirror := fakeRelease(t, "v1.2.3", "Firecracker v1.2.3")
	e, stdout, stderr := setupEnv(t)
	if err := runSetup(t.Context(), e, setupOptions{mirror: mirror, out: outcome{json: true}}, release); err != nil {
		t.Fatal(err)
	}
	var there setup.Installation
	if err := json.Unmarshal(stdout.Bytes(), &there); err != nil || there.Version != "v1.2.3" {
		t.Errorf("printed %q, %v", stdout, err)
	}
	if want := fmt.Sprintf("installed Firecracker v1.2.3: %s\n", there.Firecracker); stderr.String() != want {
		t.Errorf("said %q, want %q", stderr, want)
	}
	// Again, when the mirror doesn't matter any more.
	stderr.Reset()
	if err := runSetup(t.Context(), e, setupOptions{mirror: mirror + "/nowhere"}, release); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("Firecracker v1.2.3 is installed already: %s\n", there.Firecracker); stderr.String() != want {
		t.Errorf("said %q, want %q", stderr, want)
	}
}

func TestSetupFails(t *testing.T) {
	good, mirror := fakeRelease(t, "v1.2.3", "Firecracker v1.2.3")
	liar, liarMirror := fakeRelease(t, "v1.2.3", "Firecracker v0.9.0")
	for _, tt := range []struct {
		mirror  string
		release setup.Release
		text    string
	}{
		{mirror + "/nowhere", good, "Firecracker v1.2.3 can't be had, so VMs run on QEMU: there is nothing at"},
		{mirror, liar, "Firecracker v1.2.3 can't be had, so VMs run on QEMU: "},
		{liarMirror, liar, "is not Firecracker v1.2.3"},
	} {
		e, stdout, _ := setupEnv(t)
		err := runSetup(t.Context(), e, setupOptions{mirror: tt.mirror, out: outcome{json: true}}, tt.release)
		if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("got %v, want %q", err, tt.text)
		}
		if exitCode(err) != 6 || stdout.Len() > 0 {
			t.Errorf("exit status %d, printed %q", exitCode(err), stdout)
		}
	}
}
