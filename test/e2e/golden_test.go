//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger/internal/api"
)

// TestGoldenImage: what the default image promises is there and works, without
// a registry.
func TestGoldenImage(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		h.create(t, "golden", "--image", "debian-bookworm")
		in := func(script string) string {
			t.Helper()
			return strings.TrimSpace(h.must(t, "vm", "exec", "golden", "--", "sh", "-euc", script))
		}
		if got := in("systemctl is-system-running || systemctl --failed"); got != "running" {
			t.Errorf("systemd says %s", got)
		}
		tools := "git jq mise gcc make python3 curl rg fd tmux vim vi less man htop strace zip unzip rsync sudo locale docker " +
			"git-lfs gh node npm pipx ssh ip dig lsof"
		if got := in("for t in " + tools + "; do command -v $t >/dev/null || echo $t; done"); got != "" {
			t.Errorf("missing: %s", got)
		}
		in("mise --version; docker-compose version; docker version")
		if got := in("docker info --format '{{.Driver}}'"); got != "overlay2" && got != "overlayfs" {
			t.Errorf("docker's storage driver is %s", got)
		}
		if got := in("vim --version | grep -c Huge; python3 -m venv /tmp/venv && /tmp/venv/bin/pip --version | cut -d' ' -f1"); got != "1\npip" {
			t.Errorf("vim and venv: %q", got)
		}
		// Coding agents are packages that npm installs.
		if got := in(`mkdir /root/p; cd /root/p
			echo '{"name": "p", "version": "1.0.0", "bin": {"p-tool": "p.js"}}' >package.json
			printf '#!/usr/bin/env node\nconsole.log(6 * 7)\n' >p.js; chmod +x p.js
			npm install --silent --offline --no-audit --no-fund -g /root/p; p-tool`); got != "42" {
			t.Errorf("a program of npm's: %q", got)
		}
		if img := h.image(t, "debian-bookworm"); img.DiskBytes > 1_500_000_000 {
			t.Errorf("the image takes %d bytes, want 1.5 GB at most", img.DiskBytes)
		}
		if got := in("for t in xterm-kitty foot alacritty tmux-256color; do infocmp $t >/dev/null 2>&1 || echo $t; done"); got != "" {
			t.Errorf("unknown terminals: %s", got)
		}
		lfs := in(`mkdir /root/lfs; cd /root/lfs; git init -q; git config user.email a@example.org; git config user.name A
			git lfs track '*.bin' >/dev/null; echo large >a.bin; git add .; git commit -qm a; git show HEAD:a.bin | head -1; cat a.bin`)
		if lfs != "version https://git-lfs.github.com/spec/v1\nlarge" {
			t.Errorf("git-lfs: %q", lfs)
		}
		copied := h.runWithInput(t, string(busyboxTree(t)), "vm", "exec", "golden", "--", "sh", "-c", "mkdir /root/b; cat > /root/b/busybox.tar")
		if copied.exit != 0 {
			t.Fatalf("copy a tar: %s", copied.stderr)
		}
		got := in(`cd /root/b
			printf 'FROM scratch\nADD busybox.tar /\nRUN ["/bin/touch", "/built"]\nENTRYPOINT ["/bin/entry"]\n' > Dockerfile
			docker build -q -t made . >/dev/null
			DOCKER_BUILDKIT=1 docker build -q -t made-by-buildkit . >/dev/null
			docker run --rm made ls /built`)
		if got != "entry\n/built" {
			t.Errorf("docker run: %q", got)
		}
		h.testSignedCommits(t, "golden")
		// OpenSSH's server makes its host key at the first connection, and lets
		// banger's key in, and no password.
		if got := in("ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | wc -l"); got != "1" {
			t.Errorf("sshd doesn't answer")
		}
		if got := in("mkdir -p /run/sshd; /usr/sbin/sshd -T | grep -E '^(permitrootlogin|strictmodes|passwordauthentication) ' | sort"); got != "passwordauthentication no\npermitrootlogin yes\nstrictmodes no" {
			t.Errorf("sshd: %q", got)
		}
	})
}

// TestDockerfile: an image is built by Docker in a VM, so that the host needs
// none.
func TestDockerfile(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		dir := filepath.Join(h.scratch, "my-app")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		for name, content := range map[string]string{
			"Dockerfile": "FROM scratch\nARG WORD\nADD busybox.tar /\nCOPY . /srv/\nRUN [\"/bin/sh\", \"-c\", \"echo $WORD > /srv/word\"]\n" +
				"RUN --mount=type=tmpfs,target=/scratch --mount=type=bind,source=kept,target=/bound [\"/bin/sh\", \"-c\", \"cat /bound > /srv/mounted; ls / > /srv/root\"]\nENV MODE=built\nWORKDIR /srv\n",
			".dockerignore": "secret\nbusybox.tar.ignored\n",
			"secret":        "not for the image",
			"kept":          "for the image",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "busybox.tar"), busyboxTree(t), 0o644); err != nil {
			t.Fatal(err)
		}
		h.deleteImage(t, "my-app")
		h.must(t, "image", "build", "--build-arg", "WORD=hello", filepath.Join(dir, "Dockerfile"))
		got := h.must(t, "vm", "run", "--rm", "--image", "my-app", "--", "sh", "-c", "echo $MODE; cat kept word mounted; ls secret / 2>/dev/null; env")
		if !strings.HasPrefix(got, "built\nfor the imagehello\nfor the image") {
			t.Errorf("got %q", got)
		}
		// Nothing of ext4's is in the root, nothing of an SSH client that has no
		// address in the environment, and programs are found as in a container.
		for line := range strings.Lines(got) {
			line = strings.TrimSpace(line)
			unwanted := line == "lost+found" || line == "secret" || strings.HasPrefix(line, "SSH_C")
			if path, ok := strings.CutPrefix(line, "PATH="); unwanted || ok && path != "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" {
				t.Errorf("the VM shows %s", line)
			}
		}
		if img := h.image(t, "my-app"); img.Origin != api.OriginDockerfile {
			t.Errorf("origin %s", img.Origin)
		}
		if vms := h.must(t, "vm", "list", "-q"); vms != "" {
			t.Errorf("the build left VMs: %s", vms)
		}
		// What Docker wrote is what image pull takes, too.
		archive := filepath.Join(h.scratch, "other.tar")
		tag, err := name.NewTag("saved:1")
		if err == nil {
			err = tarball.WriteToFile(archive, tag, makeContainer(t, busyboxTree(t), v1.Config{}))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(archive) })
		h.deleteImage(t, "saved-1")
		h.must(t, "image", "pull", archive)
		if got := h.must(t, "vm", "run", "--rm", "--image", "saved-1", "--", "ls", "/bin/busybox"); got != "/bin/busybox\n" {
			t.Errorf("a VM of an archive: %q", got)
		}
		newer := filepath.Join(dir, "Dockerfile.newer")
		if err := os.WriteFile(newer, []byte("FROM scratch\nCOPY --link kept /\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := h.run(t, "image", "build", "--name", "newer", newer); r.exit != 2 || !strings.Contains(r.stderr, "# syntax=docker/dockerfile:1") {
			t.Errorf("a build with newer syntax: exit %d\n%s", r.exit, r.stderr)
		}
		bad := filepath.Join(dir, "Dockerfile.bad")
		if err := os.WriteFile(bad, []byte("FROM scratch\nCOPY absent /\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := h.run(t, "image", "build", "--name", "bad", bad); r.exit == 0 || !strings.Contains(r.stderr, "absent") {
			t.Errorf("a build that fails: exit %d\n%s", r.exit, r.stderr)
		}
	})
}
