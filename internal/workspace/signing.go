package workspace

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"banger/internal/regularfile"
)

// maxPublicKey bounds the file of a public key, in bytes.
const maxPublicKey = 16 << 10

// signingSettings let git in the guest sign with the user's SSH key, which it
// reaches by a forwarded agent: the key itself stays on the host, and so does the
// file that the host's configuration may name. What the repository says of keys
// doesn't count, as it could name any file.
func (r *repository) signingSettings() []setting {
	if lastSetting(r.user, "gpg.format") != "ssh" {
		return nil
	}
	key, ok := publicKey(lastSetting(r.user, "user.signingkey"))
	if !ok {
		return nil
	}
	return []setting{
		{section: "gpg", name: "format", value: "ssh"},
		{section: "user", name: "signingkey", value: "key::" + key},
	}
}

// publicKey returns the public key that user.signingkey names, without its
// comment; see git-config(1).
func publicKey(value string) (string, bool) {
	if value == "" {
		return "", false
	}
	if literal, ok := strings.CutPrefix(value, "key::"); ok || strings.HasPrefix(value, "ssh-") {
		return normalKey([]byte(literal))
	}
	if rest, ok := strings.CutPrefix(value, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", false
		}
		value = filepath.Join(home, rest)
	}
	for _, path := range []string{value, value + ".pub"} {
		if data, err := regularfile.Read(path, 0, maxPublicKey); err == nil {
			if key, ok := normalKey(data); ok {
				return key, true
			}
		}
	}
	return "", false
}

func normalKey(data []byte) (string, bool) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), true
}
