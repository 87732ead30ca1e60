package agent

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/guest"
)

// certTimeout is how long a distribution's tool may take to renew its store.
const certTimeout = 2 * time.Minute

// certStores are where distributions take further certificates from, and what
// makes their store of them.
func certStores() []struct{ dir, tool string } {
	return []struct{ dir, tool string }{
		{"/usr/local/share/ca-certificates", "/usr/sbin/update-ca-certificates"},  // Debian, Ubuntu, Alpine
		{"/etc/pki/ca-trust/source/anchors", "/usr/bin/update-ca-trust"},          // Fedora, RHEL
		{"/etc/pki/trust/anchors", "/usr/sbin/update-ca-certificates"},            // openSUSE, SLE
		{"/etc/ca-certificates/trust-source/anchors", "/usr/bin/update-ca-trust"}, // Arch
	}
}

// certBundles are the files that programs read: those of the same distributions,
// the first one also of images that have none.
func certBundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem",
	}
}

// trust makes the guest trust certificates, PEM. It runs the distribution's own
// tool at the first boot, before anything of the guest has started. Where there
// is none, or where it fails, the certificates are added to the file that most
// programs read.
func trust(root *rootDir, certificates string, run func(program string) error) error {
	certs := splitPEM(certificates)
	if len(certs) == 0 || trusts(root, certs) {
		return nil
	}
	var failed error
	for _, store := range certStores() {
		if !root.exists(store.dir) || !isExecutable(root, store.tool) {
			continue
		}
		for i, cert := range certs { // Debian's tool wants a file for each
			if err := root.writeFile(fmt.Sprintf("%s/banger-%d.crt", store.dir, i+1), []byte(cert), 0o644); err != nil {
				return err
			}
		}
		if failed = run(store.tool); failed == nil && trusts(root, certs) {
			return nil
		}
	}
	return errors.Join(failed, addToBundle(root, certs))
}

// splitPEM returns the certificates, each in its only PEM form.
func splitPEM(text string) []string {
	var certs []string
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs
		}
		if block.Type == guest.PEMCertificate {
			certs = append(certs, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
		}
	}
}

// trusts tells whether some bundle has all the certificates.
func trusts(root *rootDir, certs []string) bool {
	for _, path := range certBundles() {
		if data, err := root.readFile(path); err == nil && len(missing(string(data), certs)) == 0 {
			return true
		}
	}
	return false
}

func missing(bundle string, certs []string) []string {
	var lacking []string
	for _, cert := range certs {
		if !strings.Contains(bundle, cert) {
			lacking = append(lacking, cert)
		}
	}
	return lacking
}

// addToBundle adds certificates to the bundle that is there, or makes one.
func addToBundle(root *rootDir, certs []string) error {
	for _, path := range certBundles() {
		old, err := root.readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		f, err := root.open(path, unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("\n" + strings.Join(missing(string(old), certs), ""))
		return errors.Join(err, f.Close())
	}
	return root.writeFile(certBundles()[0], []byte(strings.Join(certs, "")), 0o644)
}

// runIn returns a function that runs programs in a root with its own files.
func runIn(dir string) func(program string) error {
	return func(program string) error {
		ctx, cancel := context.WithTimeout(context.Background(), certTimeout)
		defer cancel()
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil { // it has moved already
			null, err = os.OpenFile(dir+"/dev/null", os.O_RDWR, 0)
		}
		if err != nil {
			return err
		}
		defer null.Close()
		cmd := exec.CommandContext(ctx, program)
		cmd.Dir, cmd.Env = "/", []string{"PATH=" + defaultPath, "LC_ALL=C"}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Setsid: true}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %s: %w", program, err)
		}
		return nil
	}
}
