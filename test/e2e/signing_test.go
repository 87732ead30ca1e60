//go:build e2e

package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// serveAgent serves an SSH agent with one key and returns its socket and the
// public half.
func (h *host) serveAgent(t *testing.T) (socket, public string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(h.scratch, "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn) // until the other end has had enough
			}()
		}
	}()
	return socket, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// testSignedCommits signs commits in a VM with a key that stays on the host.
func (h *host) testSignedCommits(t *testing.T, name string) {
	t.Helper()
	socket, public := h.serveAgent(t)
	script := `rm -rf /root/signed; git init -q /root/signed; cd /root/signed; git config user.name A; git config user.email a@example.org
		git config gpg.format ssh; git config user.signingkey "key::` + public + `"
		echo "a@example.org ` + public + `" >allowed; git config gpg.ssh.allowedSignersFile allowed
		git commit -q -S --allow-empty -m signed && git verify-commit HEAD 2>&1`
	for way, args := range map[string][]string{
		"exec":     {"vm", "exec", "-A", name, "--", "sh", "-c", script},
		"terminal": {"vm", "exec", "-A", "-t", name, "--", "sh", "-c", script},
		"ssh":      {"vm", "ssh", "-A", name, script},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		cmd := h.command(ctx, args...)
		cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+socket)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), "Good \"git\" signature for a@example.org") {
			t.Errorf("%s: %v\n%s", way, err, out)
		}
	}
	// Nothing is forwarded that wasn't asked for.
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := h.command(ctx, "vm", "exec", name, "--", "sh", "-c", "echo agent:$SSH_AUTH_SOCK")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.Output(); err != nil || string(out) != "agent:\n" {
		t.Errorf("without -A: %q, %v", out, err)
	}
}
