//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHostPort: a VM reaches the port of the host's localhost that it was given,
// by a stable name, also after bangerd's restart; another VM doesn't, and it no
// other port.
func TestHostPort(t *testing.T) {
	inEachMode(t, func(t *testing.T, h *host) {
		say := func(text string) (port string) {
			_, port, err := net.SplitHostPort(h.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, text)
			})))
			if err != nil {
				t.Fatal(err)
			}
			return port
		}
		given, other := say("the host's own"), say("not for VMs")
		h.create(t, "with", "--host-port", given)
		h.create(t, "without")
		ask := func(vm, port string) result {
			t.Helper()
			return h.run(t, "vm", "exec", vm, "--", "timeout", "20", "bash", "-c",
				`exec 3<>/dev/tcp/host.banger.internal/$0 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3`, port)
		}
		want := func(when string) {
			t.Helper()
			if r := ask("with", given); r.exit != 0 || !strings.HasSuffix(r.stdout, "the host's own") {
				t.Errorf("%s: exit %d, %q\n%s", when, r.exit, r.stdout, r.stderr)
			}
		}
		want("at first")
		if r := ask("with", other); r.exit == 0 || strings.Contains(r.stdout, "not for VMs") {
			t.Errorf("another port: exit %d, %q", r.exit, r.stdout)
		}
		if r := ask("without", given); r.exit == 0 || strings.Contains(r.stdout, "own") {
			t.Errorf("another VM: exit %d, %q", r.exit, r.stdout)
		}
		h.must(t, "daemon", "restart")
		want("after bangerd's restart")
	})
}

// makeAuthority makes a certificate authority and returns its certificate, PEM,
// and one that it has signed for a server of that name.
func makeAuthority(t *testing.T, name string) (ca []byte, server tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, caKey := sign(authority, authority, nil)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, key := sign(leaf, authority, caKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestProxyAndCACerts: the host's proxy and certificate authorities are the
// guest's, in commands and services.
func TestProxyAndCACerts(t *testing.T) {
	once(t, func(t *testing.T, h *host) {
		ca, certificate := makeAuthority(t, "host.banger.internal")
		listener := h.listen(t)
		server := &http.Server{ //nolint:gosec // on loopback, for one test
			Handler:   http.NotFoundHandler(),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, //nolint:gosec // the default versions
		}
		go func() { _ = server.ServeTLS(listener, "", "") }()
		t.Cleanup(func() { server.Close() })
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(h.scratch, "ca.pem")
		if err := os.WriteFile(file, ca, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(file) })
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		t.Cleanup(func() { h.run(t, "vm", "delete", "--force", "corp") })
		create := h.command(ctx, "vm", "create", "--name", "corp", "--proxy", "--ca-certs="+file)
		create.Env = append(create.Env, "https_proxy=http://127.0.0.1:"+port, "no_proxy=.corp")
		if out, err := create.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// The name is one that isn't for the proxy. Nothing is at the address but
		// what git says of it shows whether it trusts the server.
		r := h.run(t, "vm", "exec", "corp", "--", "git", "ls-remote", "https://host.banger.internal:"+port+"/x")
		if !strings.Contains(r.stderr, "not found") {
			t.Errorf("git: %s", r.stderr)
		}
		in := func(script string) string {
			t.Helper()
			return h.must(t, "vm", "exec", "corp", "--", "sh", "-euc", script)
		}
		want := "http://host.banger.internal:" + port
		if got := in("echo $https_proxy $HTTPS_PROXY $no_proxy"); !strings.HasPrefix(got, want+" "+want+" .corp,localhost,") {
			t.Errorf("a command's proxies: %s", got)
		}
		if got := in("systemd-run --quiet --pipe --wait env"); !strings.Contains(got, "\nhttps_proxy="+want+"\n") && !strings.HasPrefix(got, "https_proxy="+want+"\n") {
			t.Errorf("a service's environment: %s", got)
		}
		if got := in("cat /root/.docker/config.json; ls /etc/ssl/certs | grep -c banger; grep -c 'BEGIN CERT' /etc/ssl/certs/ca-certificates.crt"); !strings.Contains(got, want) || strings.HasSuffix(got, "\n1\n") {
			t.Errorf("Docker's proxy and the store: %s", got)
		}
	})
}
