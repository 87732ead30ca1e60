// Package sshkey makes the SSH keys that banger needs: the user's key, which
// opens every VM, and a host key per VM.
package sshkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"
)

// Pair is a key pair in the formats that OpenSSH reads.
type Pair struct {
	Private string // OpenSSH PEM
	Public  string // authorized_keys line, without a newline
}

// Generate makes an ed25519 pair.
func Generate(comment string) (Pair, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("generate ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return Pair{}, fmt.Errorf("encode ssh key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return Pair{}, fmt.Errorf("encode ssh key: %w", err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if comment != "" {
		line += " " + comment
	}
	return Pair{Private: string(pem.EncodeToMemory(block)), Public: line}, nil
}

// Load reads the private key at path and derives the public one.
func Load(path string) (Pair, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Pair{}, fmt.Errorf("read ssh key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return Pair{}, fmt.Errorf("read ssh key %s: %w (banger needs a key without passphrase)", path, err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return Pair{Private: string(data), Public: public}, nil
}

// Ensure loads the key at path, or makes one there, readable by the user only,
// with its public half in path.pub.
func Ensure(path string) (Pair, error) {
	pair, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	if pair, err = Generate("banger"); err != nil {
		return Pair{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Pair{}, fmt.Errorf("create ssh key directory: %w", err)
	}
	// The public half first: an interruption between the two is then mended by
	// the next call.
	if err := renameio.WriteFile(path+".pub", []byte(pair.Public+"\n"), 0o644); err != nil {
		return Pair{}, fmt.Errorf("write ssh key: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(pair.Private), 0o600); err != nil {
		return Pair{}, fmt.Errorf("write ssh key: %w", err)
	}
	return pair, nil
}
