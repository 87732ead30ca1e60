package cli

import (
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger/internal/api"
)

// hostCAs is what --ca-certs means without a file.
const hostCAs = "host"

// hostCADirs are where administrators put certificates of their own, in order
// of distributions: Debian, Fedora, openSUSE, Arch.
var hostCADirs = []string{
	"/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors",
	"/etc/pki/trust/anchors", "/etc/ca-certificates/trust-source/anchors",
}

// readCACerts returns the certificates in files as PEM, and nothing else that is
// in them; "host" stands for those that were added to this host's store.
func readCACerts(files []string, dirs []string) (string, error) {
	var all strings.Builder
	for _, file := range files {
		if file != hostCAs {
			text, err := certificatesIn(file)
			if err != nil {
				return "", err
			}
			if text == "" {
				return "", api.Errorf(api.CodeInvalid, "--ca-certs: there is no certificate in PEM in %s", file)
			}
			all.WriteString(text)
			continue
		}
		found := ""
		for _, dir := range dirs {
			for _, pattern := range []string{"*", "*/*"} { // Debian's has directories of packages
				paths, err := filepath.Glob(filepath.Join(dir, pattern))
				if err != nil {
					return "", err
				}
				for _, path := range paths {
					if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
						continue
					}
					text, err := certificatesIn(path)
					if err != nil {
						return "", err
					}
					found += text
				}
			}
		}
		if found == "" {
			return "", api.Errorf(api.CodeInvalid, "--ca-certs: no certificates of its own were added to this host's store").
				WithHint("name a file: --ca-certs=FILE")
		}
		all.WriteString(found)
	}
	return all.String(), nil
}

func certificatesIn(file string) (string, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "--ca-certs: %v", err)
	}
	var text strings.Builder
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return text.String(), nil
		}
		if block.Type == "CERTIFICATE" {
			text.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
}

// proxyNames are the variables that name proxies; each exists in upper case, too.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy"}

// noProxy are names that a guest never asks a proxy for.
const noProxy = "localhost,127.0.0.1,::1,host.banger.internal,.banger"

// proxyEnv returns the variables by which programs in a VM find the proxies of
// this host's environment. A proxy on this host's localhost is reached by a port
// of the host, which is returned as well.
func proxyEnv(lookup func(string) (string, bool)) (env map[string]string, ports []int, err error) {
	env = make(map[string]string)
	get := func(name string) string {
		if value, ok := lookup(name); ok {
			return value
		}
		value, _ := lookup(strings.ToUpper(name))
		return value
	}
	for _, name := range proxyNames {
		value := get(name)
		if value == "" {
			continue
		}
		proxy, port, err := fromGuest(value)
		if err != nil {
			return nil, nil, api.Errorf(api.CodeInvalid, "--proxy: the variable %s doesn't name a proxy", name).
				WithHint("it looks like http://HOST:PORT")
		}
		if port != 0 {
			ports = append(ports, port)
		}
		env[name], env[strings.ToUpper(name)] = proxy, proxy
	}
	if len(env) == 0 {
		return nil, nil, api.Errorf(api.CodeInvalid, "--proxy: no variable names a proxy here").
			WithHint("set http_proxy and https_proxy")
	}
	except := noProxy
	if own := get("no_proxy"); own != "" {
		except = own + "," + noProxy
	}
	env["no_proxy"], env["NO_PROXY"] = except, except
	return env, ports, nil
}

// fromGuest is how a guest names a proxy that this host names value.
func fromGuest(value string) (proxy string, port int, err error) {
	text := value
	if !strings.Contains(text, "://") {
		text = "http://" + text // as curl reads it
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", 0, api.ErrInvalid // without the text, which may have a password
	}
	if host := u.Hostname(); host != "localhost" && host != "::1" && !strings.HasPrefix(host, "127.") {
		return value, 0, nil
	}
	number := u.Port()
	if number == "" {
		number = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	if number == "" {
		number = "80"
	}
	if port, err = strconv.Atoi(number); err != nil {
		return "", 0, api.ErrInvalid
	}
	u.Host = "host.banger.internal:" + number
	return u.String(), port, nil
}
