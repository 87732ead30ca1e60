//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testSSHClients reaches the VM "one" by other programs, with what vm
// ssh-config prints, as its documentation says.
func (h *host) testSSHClients(t *testing.T) {
	dir := filepath.Join(h.scratch, "ssh")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config")
	for file, text := range map[string]string{
		config:                       h.must(t, "vm", "ssh-config", "one"),
		filepath.Join(dir, "report"): "by scp\n",
		filepath.Join(dir, "batch"):  "rename /root/report /root/renamed\nget /root/renamed " + dir + "/back\n",
		// What a user has for other hosts must not come in the way.
		filepath.Join(dir, "user"): "Host *\n  RemoteCommand echo not this\n  ForwardAgent yes\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.mustRun(t, "scp", "-F", config, filepath.Join(dir, "report"), "one:/root/")
	h.mustRun(t, "sftp", "-F", config, "-b", filepath.Join(dir, "batch"), "one")
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(back) != "by scp\n" {
		t.Errorf("sftp brought back %q, %v", back, err)
	}
	if got := h.mustRun(t, "ssh", "-F", config, "one", "cat", "/root/renamed"); got != "by scp\n" {
		t.Errorf("ssh prints %q", got)
	}
	if got := h.must(t, "vm", "ssh", "-F", filepath.Join(dir, "user"), "one", "echo", "this"); got != "this\n" {
		t.Errorf("with RemoteCommand for every host, vm ssh prints %q", got)
	}
	// As rsync and git call it.
	r := h.runWithInput(t, "through\n", "vm", "ssh", "-o", "SendEnv=GIT_PROTOCOL", "one", "cat > /root/piped && cat /root/piped")
	if r.exit != 0 || r.stdout != "through\n" {
		t.Errorf("vm ssh as another's program: exit %d, %q\n%s", r.exit, r.stdout, r.stderr)
	}
}

// mustRun runs another program to its end.
func (h *host) mustRun(t *testing.T, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := h.program(ctx, argv...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, stderr.String())
	}
	return string(out)
}
