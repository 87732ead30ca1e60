package cli

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProxyEnv(t *testing.T) {
	const except = "localhost,127.0.0.1,::1,host.banger.internal,.banger"
	for name, c := range map[string]struct {
		host  map[string]string
		env   map[string]string // in lower case
		ports []int
		fails bool
	}{
		"elsewhere": {host: map[string]string{"https_proxy": "http://u:p@proxy:3128", "NO_PROXY": ".corp"},
			env: map[string]string{"https_proxy": "http://u:p@proxy:3128", "no_proxy": ".corp," + except}},
		"upper case": {host: map[string]string{"HTTP_PROXY": "proxy:3128"},
			env: map[string]string{"http_proxy": "proxy:3128", "no_proxy": except}},
		"on this host": {host: map[string]string{"http_proxy": "http://u:p@127.0.0.1:3128/", "all_proxy": "socks5h://localhost"},
			env: map[string]string{"http_proxy": "http://u:p@host.banger.internal:3128/", "all_proxy": "socks5h://host.banger.internal:1080", "no_proxy": except}, ports: []int{3128, 1080}},
		"none":    {host: map[string]string{"no_proxy": "x"}, fails: true},
		"a typo":  {host: map[string]string{"http_proxy": "http://user:secret@:x"}, fails: true},
		"nothing": {host: map[string]string{"http_proxy": "http://"}, fails: true},
	} {
		env, ports, err := proxyEnv(func(name string) (string, bool) { v, ok := c.host[name]; return v, ok })
		if c.fails {
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		want := make(map[string]string)
		for name, value := range c.env {
			want[name], want[strings.ToUpper(name)] = value, value
		}
		if diff := cmp.Diff(want, env); diff != "" || err != nil || !cmp.Equal(c.ports, ports) {
			t.Errorf("%s: %v, ports %v, %s", name, err, ports, diff)
		}
	}
}

func TestReadCACerts(t *testing.T) {
	cert := func(content string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(content)}))
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	file := write("ca.pem", "A comment\n"+cert("one")+key)
	empty := write("empty", key)
	write("store/corp.crt", cert("two"))
	write("store/package/other.crt", cert("three"))
	store := []string{filepath.Join(dir, "none"), filepath.Join(dir, "store")}
	got, err := readCACerts([]string{file, hostCAs}, store)
	if err != nil || got != cert("one")+cert("two")+cert("three") {
		t.Errorf("got %q, %v", got, err)
	}
	for _, files := range [][]string{{filepath.Join(dir, "none")}, {empty}} {
		if _, err := readCACerts(files, store); err == nil || !strings.Contains(err.Error(), "--ca-certs") {
			t.Errorf("%v: %v", files, err)
		}
	}
	if _, err := readCACerts([]string{hostCAs}, store[:1]); err == nil {
		t.Error("a host without certificates of its own")
	}
}
