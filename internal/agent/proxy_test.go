package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteProxy(t *testing.T) {
	root, _ := rootWith(t, map[string]string{proxyContainers: `{"auths": {"r": {}}, "proxies": {"tcp://x": {}}}`})
	env := map[string]string{"http_proxy": "http://u:a%20b@proxy:3128", "NO_PROXY": `localhost,"x`, "OTHER": "y"}
	if err := writeProxy(root, env, true); err != nil {
		t.Fatal(err)
	}
	unit, err := root.readFile(proxyServices)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`DefaultEnvironment="http_proxy=http://u:a%%20b@proxy:3128"`, `DefaultEnvironment="HTTP_PROXY=http://u:a%%20b@proxy:3128"`,
		`DefaultEnvironment="no_proxy=localhost,\"x"`,
	} {
		if !strings.Contains(string(unit), line+"\n") {
			t.Errorf("the unit lacks %s:\n%s", line, unit)
		}
	}
	data, err := root.readFile(proxyContainers)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"auths": map[string]any{"r": map[string]any{}},
		"proxies": map[string]any{
			"tcp://x": map[string]any{},
			"default": map[string]any{"httpProxy": "http://u:a%20b@proxy:3128", "noProxy": `localhost,"x`},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNoProxy(t *testing.T) {
	root, _ := rootWith(t, map[string]string{"etc/hostname": "", proxyContainers: "no JSON"})
	if err := writeProxy(root, map[string]string{"OTHER": "y"}, true); err != nil || root.exists(proxyServices) {
		t.Errorf("without a proxy: %v", err)
	}
	if err := writeProxy(root, map[string]string{"http_proxy": "http://proxy"}, false); err != nil || root.exists(proxyServices) {
		t.Errorf("without systemd: %v", err)
	}
	if data, err := root.readFile(proxyContainers); err != nil || string(data) != "no JSON" {
		t.Errorf("a file that isn't Docker's became %q, %v", data, err)
	}
}
