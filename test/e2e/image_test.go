//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// image returns what banger says of an image.
func (h *host) image(t *testing.T, name string) api.Image {
	t.Helper()
	var img api.Image
	if err := json.Unmarshal([]byte(h.must(t, "image", "show", name, "--json")), &img); err != nil {
		t.Fatal(err)
	}
	return img
}

// rootfs returns the file of the default image, which it makes if need be.
func (h *host) rootfs(t *testing.T) string {
	t.Helper()
	h.must(t, "vm", "create", "--no-start", "--name", "rootfs")
	h.must(t, "vm", "delete", "rootfs")
	return h.image(t, "debian-minimal").Rootfs
}

// deleteImage removes what a test has made.
func (h *host) deleteImage(t *testing.T, name string) {
	t.Cleanup(func() { h.run(t, "image", "delete", name) })
}

// TestRegistryImage: a container image without an init runs, as its publisher
// configured it.
func TestRegistryImage(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		ref := h.serveImage(t, makeContainer(t, busyboxTree(t), v1.Config{
			Env: []string{"PATH=/bin", "MODE=image", "OTHER=image"}, WorkingDir: "/srv", User: "app", Entrypoint: []string{"/bin/entry"},
		}))
		h.deleteImage(t, "app-v1")
		r := h.run(t, "vm", "run", "--name", "app", "--env", "OTHER=vm", "--image", ref, "--", "sh", "-c", "id -un; pwd; echo $MODE $OTHER")
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "app") })
		if want := "entry\napp\n/srv\nimage vm\n"; r.exit != 0 || r.stdout != want {
			t.Fatalf("exit %d, stdout %q, want %q\n%s", r.exit, r.stdout, want, r.stderr)
		}
		if got := h.must(t, "vm", "exec", "app", "--", "sh", "-c", "id -un; pwd"); got != "app\n/srv\n" {
			t.Errorf("exec: %q", got)
		}
		if got := h.must(t, "vm", "exec", "--user", "0:0", "--cwd", "/etc", "app", "--", "sh", "-c", "id -un; pwd"); got != "root\n/etc\n" {
			t.Errorf("exec --user: %q", got)
		}
		h.awaitLog(t, "app", "no package manager")
		if r := h.run(t, "image", "delete", "app-v1"); r.exit == 0 || !strings.Contains(r.stderr, "VM app") {
			t.Errorf("an image in use was deleted: exit %d\n%s", r.exit, r.stderr)
		}
	})
}

// TestFirstBoot: a container image with a package manager gets OpenSSH's server
// at its first boot, in the background.
func TestFirstBoot(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		if os.Geteuid() != 0 {
			t.Skip("SKIPPED: needs root to unpack an image with its owners")
		}
		tree := t.TempDir()
		dump := exec.Command("debugfs", "-R", "rdump / "+tree, h.rootfs(t))
		if out, err := dump.CombinedOutput(); err != nil {
			t.Fatalf("unpack the image: %v: %s", err, out)
		}
		packed, err := exec.Command("tar", "-C", tree, "-c", ".").Output()
		if err != nil {
			t.Fatalf("pack the image: %v", err)
		}
		ref := h.serveImage(t, makeContainer(t, packed, v1.Config{}))
		h.deleteImage(t, "app-v1")
		h.create(t, "first", "--image", ref)
		if got := h.must(t, "vm", "exec", "first", "--", "echo", "at once"); got != "at once\n" {
			t.Errorf("got %q", got)
		}
		h.awaitLog(t, "first", "the OpenSSH server runs")
		if got := h.must(t, "vm", "exec", "first", "--", "bash", "-c", "read line </dev/tcp/127.0.0.1/22; echo ${line%%_*}"); got != "SSH-2.0-OpenSSH\n" {
			t.Errorf("port 22 says %q", got)
		}
	})
}

// awaitLog waits until a VM's log has the words.
func (h *host) awaitLog(t *testing.T, vm, words string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Minute); ; {
		log := h.must(t, "vm", "logs", vm)
		if strings.Contains(log, words) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log of %s doesn't say %q:\n%s", vm, words, log)
		}
		time.Sleep(3 * time.Second)
	}
}

// TestRegister: a user's file is used in place, and never written.
func TestRegister(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		mine := filepath.Join(h.scratch, "mine.ext4")
		if out, err := h.program(t.Context(), "cp", "--sparse=always", h.rootfs(t), mine).CombinedOutput(); err != nil {
			t.Fatalf("copy the file system: %v: %s", err, out)
		}
		t.Cleanup(func() { os.Remove(mine) })
		before := checksum(t, mine)
		h.must(t, "image", "register", "--name", "mine", "--rootfs", mine)
		h.deleteImage(t, "mine")
		if got := h.must(t, "vm", "run", "--rm", "--image", "mine", "--", "sh", "-c", "rm -rf /usr/share/bug; echo ok"); got != "ok\n" {
			t.Errorf("got %q", got)
		}
		if checksum(t, mine) != before {
			t.Error("the user's file was written to")
		}
		h.must(t, "image", "delete", "mine")
		if checksum(t, mine) != before {
			t.Error("deleting the image touched the user's file")
		}
	})
}

// TestCommitExportImport: a VM becomes an image, that image a bundle, and that
// bundle an image again, whose VMs have the files and an identity of their own.
func TestCommitExportImport(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		h.create(t, "source")
		h.must(t, "vm", "exec", "source", "--", "sh", "-euc", `
			echo overlaid > /etc/made; echo real > /root/made; ln /etc/made /etc/made2
			rm -rf /usr/share/bug
			install -o 33 -m 4750 /dev/null /srv/odd`)
		id := h.must(t, "vm", "exec", "source", "--", "cat", "/etc/machine-id")
		h.deleteImage(t, "committed")
		h.must(t, "image", "commit", "source", "committed")

		bundle := filepath.Join(h.scratch, "committed.tar.zst")
		t.Cleanup(func() { os.Remove(bundle) })
		h.must(t, "image", "export", "committed", "-o", bundle)
		if out, err := h.program(t.Context(), "tar", "--zstd", "-tf", bundle).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "manifest.json\n") {
			t.Errorf("tar reads the bundle: %v: %s", err, out)
		}
		h.must(t, "image", "delete", "committed")
		h.must(t, "image", "import", bundle)
		got := h.must(t, "vm", "run", "--rm", "--image", "committed", "--", "sh", "-euc", `
			cat /etc/made /root/made; stat -c '%h %u %a' /etc/made2 /srv/odd; test ! -e /usr/share/bug
			cat /etc/machine-id`)
		want := "overlaid\nreal\n2 0 644\n1 33 4750\n"
		if !strings.HasPrefix(got, want) || strings.Contains(got, strings.TrimSpace(id)) {
			t.Errorf("got %q, want %q and another machine id than %q", got, want, id)
		}
	})
}

// TestDiskUsage: what du counts is what there is.
func TestDiskUsage(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "user", "--no-start")
		var usage api.Usage
		if err := json.Unmarshal([]byte(h.must(t, "du", "--json")), &usage); err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]api.UsageItem)
		for _, item := range usage.Items {
			seen[item.Kind+" "+item.Name] = item
		}
		image, vm := seen["image debian-minimal"], seen["vm user"]
		if image.Shared == 0 || image.Exclusive != 0 || image.Reclaimable != 0 {
			t.Errorf("an image in use: %+v", image)
		}
		if vm.Exclusive == 0 || vm.Shared < image.Shared {
			t.Errorf("a VM: %+v", vm)
		}
		h.must(t, "vm", "delete", "user")
		r := h.run(t, "image", "prune", "--dry-run")
		if r.exit != 0 || !strings.Contains(r.stdout+r.stderr, "debian-minimal") {
			t.Errorf("prune --dry-run: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
		}
		if !strings.Contains(h.must(t, "image", "list", "-q"), "debian-minimal") {
			t.Error("a dry run removed an image")
		}
	})
}
