//go:build e2e

package recipe

import (
	"bytes"
	"crypto/sha256"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/catalog"
)

// tiny has something of all that a recipe can have, except for packages of npm.
func tiny() catalog.ImageRecipe {
	return catalog.ImageRecipe{
		Suite:       "bookworm",
		Packages:    []string{"openssh-server"}, // makes an account, keys and links
		DpkgOptions: []string{"path-exclude=/usr/share/doc/*"},
		Files:       []catalog.File{{Path: "etc/motd", Mode: 0o640, Content: "it's me\n"}},
		Run: []string{
			`test "$(cat /etc/motd)" = "it's me" && cp /etc/motd /etc/motd2`,
			"mkfifo /srv/fifo; ln /etc/motd /srv/link; touch -d 'next year' /srv/late",
		},
		Empty:    []string{"dev", "run", "tmp"},
		Remove:   []string{"etc/hostname", "etc/resolv.conf", "etc/ssh", "var/log"},
		Masked:   []string{"ssh.service"},
		RealDirs: []string{"/var/lib/docker"},
	}
}

func buildTiny(t *testing.T, r catalog.ImageRecipe) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	last := 0
	report := func(detail string, percent int) {
		if percent < last {
			t.Errorf("progress went back from %d to %d at %q", last, percent, detail)
		}
		last = percent
	}
	return dir, Build(t.Context(), r, runtime.GOARCH, dir, report, log)
}

// TestBuild needs root and the network.
func TestBuild(t *testing.T) {
	var hashes [2][sha256.Size]byte
	var packages [2][]byte
	for i := range hashes {
		dir, err := buildTiny(t, tiny())
		if err != nil {
			t.Fatal(err)
		}
		rootfs := filepath.Join(dir, RootfsFile)
		if out, err := exec.Command("e2fsck", "-fn", rootfs).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v: %s", err, out)
		}
		data, err := os.ReadFile(rootfs)
		if err != nil {
			t.Fatal(err)
		}
		hashes[i] = sha256.Sum256(data)
		if packages[i], err = os.ReadFile(filepath.Join(dir, PackagesFile)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(packages[i], []byte("\nopenssh-server 1:")) {
			t.Errorf("the list of packages lacks one:\n%s", packages[i])
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != 2 {
			t.Errorf("more was left than the two files: %q, %v", left, err)
		}
		for path, want := range map[string]string{
			"/etc/motd2":                      "0640",
			"/srv/fifo":                       "FIFO",
			"/srv/link":                       "Links: 2",
			"/etc/systemd/system/ssh.service": `"/dev/null"`,
			"/var/lib/docker":                 "directory",
		} {
			out, err := exec.Command("debugfs", "-R", "stat "+path, rootfs).Output()
			if err != nil || !bytes.Contains(out, []byte(want)) {
				t.Errorf("%s: want %q in:\n%s%v", path, want, out, err)
			}
		}
	}
	if diff := cmp.Diff(string(packages[0]), string(packages[1])); diff != "" {
		t.Skipf("the distribution changed between the builds: %s", diff)
	}
	if hashes[0] != hashes[1] {
		t.Error("two builds of the same packages differ")
	}
}

// A command that fails must fail the build, with its last words.
func TestBuildFailingCommand(t *testing.T) {
	r := tiny()
	r.Packages, r.Run = nil, []string{"echo 'mytool: error: out of luck' >&2; exit 3", "true"}
	_, err := buildTiny(t, r)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("out of luck")) {
		t.Errorf("got %v", err)
	}
}
