package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// runtime is what the worker has to know of the VM. PID 1 writes it to a memory
// file that supervisor and workers inherit, so that nothing of it is in the
// guest's filesystem.
type runtime struct {
	Init           string            `json:"init"` // "" without one
	Systemd        bool              `json:"systemd"`
	AuthorizedKeys []string          `json:"authorized_keys"`
	HostKey        string            `json:"host_key"`
	Env            map[string]string `json:"env"`
	InstallSSH     bool              `json:"install_ssh"`
	RealDirs       []string          `json:"real_dirs"` // where they really are in the root
	Given          given             `json:"given"`
}

// Files that supervisor and worker inherit. None of them goes on to what these
// start, see keepDescriptors.
const (
	runtimeFD = 3 // the runtime as JSON
	notifyFD  = 4 // supervisor: the socket that systemd tells of the end of the boot
	bootedFD  = 4 // worker: a pipe that ends when systemd has told that
	groupsFD  = 5 // the control groups; perhaps there is none
)

// check finds mistakes while the host still waits for an answer.
func (r runtime) check() error {
	if _, err := r.signer(); err != nil {
		return err
	}
	_, err := r.keys()
	return err
}

func (r runtime) signer() (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey([]byte(r.HostKey))
	if err != nil {
		return nil, fmt.Errorf("read the VM's SSH host key: %w", err)
	}
	return signer, nil
}

func (r runtime) keys() ([]ssh.PublicKey, error) {
	keys := make([]ssh.PublicKey, 0, len(r.AuthorizedKeys))
	for i, line := range r.AuthorizedKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("read authorized key %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// save puts the runtime into a new memory file.
func (r runtime) save() (*os.File, error) {
	content, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode runtime: %w", err)
	}
	fd, err := unix.MemfdCreate("banger-runtime", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "banger-runtime")
	if _, err := f.Write(content); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write memory file: %w", err)
	}
	return f, nil
}

// loadRuntime reads what save wrote; it doesn't move the file's offset, which
// all that inherit the file share.
func loadRuntime(f *os.File) (runtime, error) {
	var r runtime
	info, err := f.Stat()
	if err != nil {
		return r, fmt.Errorf("read runtime: %w", err)
	}
	if err := json.NewDecoder(io.NewSectionReader(f, 0, info.Size())).Decode(&r); err != nil {
		return r, fmt.Errorf("read runtime: %w", err)
	}
	return r, nil
}
