package agent

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/guest"
)

// certificate looks like one.
func certificate(content string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: guest.PEMCertificate, Bytes: []byte(strings.Repeat(content, 50))}))
}

// rootWith makes a root of files by path; one in a bin directory is executable.
func rootWith(t *testing.T, files map[string]string) (*rootDir, string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && !strings.HasSuffix(name, "/") {
			mode := os.FileMode(0o644)
			if strings.Contains(name, "bin/") {
				mode = 0o755
			}
			err = os.WriteFile(path, []byte(content), mode)
		} else if err == nil {
			err = os.MkdirAll(path, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := openRootDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir
}

func TestTrust(t *testing.T) {
	one, two, public := certificate("one"), certificate("two"), certificate("public")
	const debian, fedora = "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
	for name, c := range map[string]struct {
		files  map[string]string
		bundle string
		tool   string // that is to run
		works  bool
	}{
		"Debian": {map[string]string{"usr/local/share/ca-certificates/": "", "usr/sbin/update-ca-certificates": "", debian: public},
			debian, "/usr/sbin/update-ca-certificates", true},
		"Fedora": {map[string]string{"etc/pki/ca-trust/source/anchors/": "", "usr/bin/update-ca-trust": "", fedora: public},
			fedora, "/usr/bin/update-ca-trust", true},
		"a tool that fails": {map[string]string{"usr/local/share/ca-certificates/": "", "usr/sbin/update-ca-certificates": "", debian: public},
			debian, "/usr/sbin/update-ca-certificates", false},
		"no tool":           {map[string]string{debian: strings.TrimSpace(public)}, debian, "", true},
		"no tool of Fedora": {map[string]string{fedora: public}, fedora, "", true},
		"nothing":           {map[string]string{"etc/hostname": ""}, debian, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir := rootWith(t, c.files)
			var ran []string
			run := func(tool string) error {
				ran = append(ran, tool)
				if !c.works {
					return errors.New("no")
				}
				anchors, err := filepath.Glob(filepath.Join(dir, filepath.Dir(anchorOf(c.files)), "*/*.crt"))
				if err != nil || len(anchors) != 2 {
					t.Errorf("the tool finds %v, %v", anchors, err)
				}
				return os.WriteFile(filepath.Join(dir, c.bundle), []byte(public+one+two), 0o644)
			}
			for range 2 { // the second boot has nothing to do
				if err := trust(root, "# comment\n"+one+two, run); c.works != (err == nil) {
					t.Fatal(err)
				}
				c.works = true
			}
			if want := c.tool; want != "" && !slices.Equal(ran, []string{want}) || want == "" && len(ran) > 0 {
				t.Errorf("ran %v, want %q", ran, want)
			}
			got, err := root.readFile(c.bundle)
			if err != nil || !strings.Contains(string(got), one) || !strings.Contains(string(got), two) {
				t.Errorf("the bundle lacks a certificate: %v\n%s", err, got)
			}
			if had := c.files[c.bundle]; !strings.HasPrefix(string(got), had) {
				t.Errorf("the bundle lacks what it had:\n%s", got)
			}
		})
	}
}

// anchorOf is the directory that ends in a slash.
func anchorOf(files map[string]string) string {
	for name := range files {
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			return dir
		}
	}
	return ""
}

func TestSplitPEM(t *testing.T) {
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	if got := splitPEM("x\n" + key + certificate("a") + "y" + "\n" + certificate("b")); !slices.Equal(got, []string{certificate("a"), certificate("b")}) {
		t.Errorf("got %q", got)
	}
	if got := splitPEM("no certificate"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}
