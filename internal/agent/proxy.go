package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// The variables by which programs find a proxy are in lower case with most, in
// upper case with some.
var proxyVariables = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}

// Where services and Docker's containers find a proxy. Docker's daemon is one of
// the services.
const (
	proxyServices   = "/etc/systemd/system.conf.d/banger-proxy.conf"
	proxyContainers = "/root/.docker/config.json"
)

// writeProxy gives the VM's proxy, if its environment has one, to systemd's
// services and to containers as well.
func writeProxy(root *rootDir, env map[string]string, systemd bool) error {
	var lines []string
	containers := make(map[string]string)
	for _, name := range proxyVariables {
		value := env[name]
		if value == "" {
			value = env[strings.ToUpper(name)]
		}
		if value == "" {
			continue
		}
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			lines = append(lines, fmt.Sprintf("DefaultEnvironment=%s", quoteUnit(spelling+"="+value)))
		}
		kind, _, _ := strings.Cut(name, "_")
		containers[kind+"Proxy"] = value
	}
	if len(lines) == 0 {
		return nil
	}
	if systemd {
		content := "# Written by banger at every boot.\n[Manager]\n" + strings.Join(lines, "\n") + "\n"
		if err := root.writeFile(proxyServices, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return writeDockerProxy(root, containers)
}

// quoteUnit quotes a word as systemd.syntax(7) and its specifiers want it.
func quoteUnit(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\n", `\n`).Replace(s) + `"`
}

// writeDockerProxy tells docker's client what variables containers and builds
// get; what else its file says stays.
func writeDockerProxy(root *rootDir, proxies map[string]string) error {
	config := make(map[string]any)
	old, err := root.readFile(proxyContainers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(old) > 0 && json.Unmarshal(old, &config) != nil {
		return nil // its user's affair
	}
	all, _ := config["proxies"].(map[string]any)
	if all == nil {
		all = make(map[string]any)
	}
	all["default"] = proxies
	config["proxies"] = all
	data, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		return err
	}
	if slices.Equal(data, old) {
		return nil
	}
	return root.writeFile(proxyContainers, data, 0o600)
}
