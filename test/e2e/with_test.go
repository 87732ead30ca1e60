//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// makeCopies makes what TestRunWith copies: a repository with uncommitted work,
// lib, a folder without one, data, and a directory inside of a repository, part.
func (h *host) makeCopies(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(h.scratch, "with")
	script := `set -eu
mkdir "$1"; cd "$1"
git init -q -b main lib
echo one > lib/committed; echo two > lib/staged; echo '*.o' > lib/.gitignore
git -C lib add committed .gitignore; git -C lib commit -q -m 'the first of lib'; git -C lib add staged
echo changed > lib/committed; echo untracked > lib/untracked; echo ignored > lib/x.o
mkdir -p data/deep; echo data > data/deep/f; echo '*.o' > data/.gitignore; echo ignored > data/x.o
git init -q whole; mkdir -p whole/part; echo /part/out > whole/.gitignore
echo part > whole/part/f; echo ignored > whole/part/out; echo whole > whole/other
`
	if out, err := h.program(t.Context(), "sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("make directories: %v: %s", err, out)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestRunWith: further directories are in the VM beside the repository, and one
// that is read-only stays so when the VM starts again.
func TestRunWith(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		repo, dir := h.makeRepo(t, "with-repo"), h.makeCopies(t)
		h.refusesCopies(t, repo, dir)
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "with") })
		r := h.run(t, "vm", "run", "--name", "with", "--timing", repo, "--with", dir+"/lib", "--with", dir+"/data:/srv/data:ro",
			"--with", dir+"/whole/part:/opt/part", "--", "sh", "-c", "pwd; make -s test")
		if r.exit != 0 || r.stdout != "/root/repo\nchanged\nuntracked\n" {
			t.Fatalf("exit %d, stdout %q\n%s", r.exit, r.stdout, r.stderr)
		}
		for _, text := range []string{dir + "/data: it is not a git repository", dir + "/whole/part: its files were copied", "  copies "} {
			if strings.Count(r.stderr, text) != 1 {
				t.Errorf("not once %q in:\n%s", text, r.stderr)
			}
		}
		want := []api.WorkspaceInfo{
			{HostPath: dir + "/lib", GuestPath: "/root/lib"},
			{HostPath: dir + "/data", GuestPath: "/srv/data", ReadOnly: true},
			{HostPath: dir + "/whole/part", GuestPath: "/opt/part"},
		}
		got := h.vm(t, "with").Copies
		for i := range got {
			got[i].Note = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		h.checkCopies(t)
		h.guestSays(t, "with", "echo kept > /root/lib/kept; echo kept > /opt/part/kept")
		h.must(t, "vm", "restart", "with")
		if got := h.guestSays(t, "with", "cat /root/lib/kept /opt/part/kept; rm /root/lib/kept /opt/part/kept"); got != "kept\nkept" {
			t.Errorf("what was written: %q", got)
		}
		h.checkCopies(t)
		if log := h.must(t, "vm", "logs", "with"); strings.Contains(log, "Failed unmounting") || strings.Contains(log, "read-only copy") {
			t.Errorf("the guest complains:\n%s", log)
		}
	})
}

// checkCopies checks what is in the guest, and that the read-only copy is that,
// also for a service that has mounts of its own.
func (h *host) checkCopies(t *testing.T) {
	t.Helper()
	for script, want := range map[string]string{
		"git -C /root/lib status --porcelain; git -C /root/lib log --format=%s":       "M committed\nA  staged\n?? untracked\nthe first of lib",
		"cd /root/lib; cat committed staged untracked; ls *.o 2>/dev/null":            "changed\ntwo\nuntracked",
		"cd /srv/data; find . -type f | sort; cat deep/f":                             "./.gitignore\n./deep/f\ndata",
		"cd /opt/part; find . -type f; cat f":                                         "./f\npart",
		"findmnt -no OPTIONS /srv/data | cut -d, -f1":                                 "ro",
		"touch /srv/data/new || echo refused":                                         "refused",
		"echo more >> /srv/data/deep/f || echo refused":                               "refused",
		"rm -rf /srv/data || cat /srv/data/deep/f":                                    "data",
		"touch /srv/beside /root/lib/.git/new && rm /root/lib/.git/new":               "",
		"systemd-run -q --wait -p PrivateTmp=yes touch /srv/data/new || echo refused": "refused",
	} {
		if got := h.guestSays(t, "with", "{ "+script+"; } 2>/dev/null; true"); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

// refusesCopies: what can't be copied is said before there is a VM.
func (h *host) refusesCopies(t *testing.T, repo, dir string) {
	t.Helper()
	tests := map[string][]string{
		"there is no directory":             {"--with", dir + "/nonesuch"},
		"is not a directory":                {"--with", dir + "/data/x.o"},
		"is no option":                      {"--with", dir + "/data:/srv/data:rw"},
		"would both be at /root/repo":       {"--with", dir + "/data:/root/repo"},
		"would both be at /srv/x":           {"--with", dir + "/data:/srv/x", "--with", dir + "/lib:/srv/x/"},
		"inside of " + repo:                 {"--with", dir + "/data:/root/repo/data"},
		"inside of " + dir + "/data":        {"--with", dir + "/lib:/srv/x/lib", "--with", dir + "/data:/srv/x"},
		"a directory of the guest's system": {"--with", dir + "/data:/etc"},
		"doesn't outlive a start":           {"--with", dir + "/data:/tmp/data"},
		"all files in it would be copied":   {"--with", "/:/srv/all"},
	}
	for message, args := range tests {
		r := h.run(t, append([]string{"vm", "run", "--name", "refused", repo}, append(args, "--", "true")...)...)
		lines := strings.Count(strings.TrimSpace(errorLines(r.stderr)), "\n")
		if r.exit != 2 || !strings.Contains(r.stderr, message) || lines > 1 {
			t.Errorf("exit %d, want 2 with %q in two lines\n%s", r.exit, message, r.stderr)
		}
	}
	if r := h.run(t, "vm", "create", "--no-start", "--with", dir+"/lib"); r.exit != 2 {
		t.Errorf("create --no-start: exit %d\n%s", r.exit, r.stderr)
	}
	var vms []api.VM
	if err := json.Unmarshal([]byte(h.must(t, "vm", "list", "--json")), &vms); err != nil || len(vms) > 0 {
		t.Errorf("VMs: %v, %v", vms, err)
	}
}
