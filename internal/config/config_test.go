package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	tests := []struct {
		name, file, wantErr string
	}{
		{"empty", "", ""},
		{"values", "cidr = '10.7.0.0/16'\nboot_timeout = '90s'\ndefault_dns = ['192.0.2.1']\n", ""},
		{"pool", "tap_pool_size = 8\n", ""},
		{"wrong pool", "tap_pool_size = -1\n", "tap_pool_size -1: want 0 to 1024"},
		{"unknown key", "driver = 'auto'\ncolour = 'red'\n", `:2: there is no key "colour"`},
		{"wrong type", "\n\ndefault_vcpus = 'two'\n", ":3: "},
		{"wrong value", "driver = 'vbox'\n", `driver "vbox"`},
		{"wrong jailer", "jailer = 'yes'\n", `jailer "yes": want auto, on or off`},
		{"bad duration", "boot_timeout = 'soon'\n", ":1: "},
		{"syntax", "driver = \n", ":1: "},
		{"no bridge", "\nbridge_name = ''\n", `:2: bridge_name ""`},
		{"no network", "cidr = ''\n", `:1: cidr ""`},
		{"no address", "driver = 'auto'\nbridge_ip = \"\"\n", `:2: bridge_ip ""`},
		{"line of a wrong value", "# driver = 'x'\n\"driver\" = 'vbox'\n", `:2: driver "vbox"`},
		{"address outside", "cidr = '10.7.0.0/16'\nbridge_ip = '10.8.0.1'\n", "not in cidr"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			switch {
			case tt.wantErr == "" && err != nil:
				t.Fatal(err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Fatalf("got %v, want an error with %q", err, tt.wantErr)
			}
		})
	}
}

func TestDefaultsFollowTheCIDR(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("cidr = '10.7.0.0/16'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.BridgeIP.String(); got != "10.7.0.1" {
		t.Errorf("bridge_ip = %s, want 10.7.0.1", got)
	}
	if c, err = Load(filepath.Join(t.TempDir(), "missing.toml")); err != nil || c.BridgeIP.String() != "172.16.0.1" {
		t.Errorf("without a file: %v, %v", c.BridgeIP, err)
	}
}

// A password in catalog_url is in no error.
func TestCatalogPassword(t *testing.T) {
	for _, address := range []string{"ftp://user:hunter2@host/", "https://user:hun%ter2@host/", "https://hunter2@/"} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte("catalog_url = '"+address+"'\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

// What the file doesn't say of the network may be chosen.
func TestAuto(t *testing.T) {
	for file, want := range map[string][2]bool{
		"":                           {true, true},
		"driver = 'qemu'":            {true, true},
		"bridge_name = 'banger0'":    {false, true},
		"cidr = '172.16.0.0/24'":     {true, false},
		"bridge_ip = '172.16.0.100'": {true, false},
	} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil || c.BridgeName != "banger0" || c.CIDR.String() != "172.16.0.0/24" {
			t.Errorf("%q: %+v, %v", file, c, err)
		}
		if got := [2]bool{c.AutoBridge, c.AutoCIDR}; got != want {
			t.Errorf("%q: bridge and network are open: %v, want %v", file, got, want)
		}
	}
	if c, err := Load(filepath.Join(t.TempDir(), "missing.toml")); err != nil || !c.AutoBridge || !c.AutoCIDR {
		t.Errorf("without a file: %+v, %v", c, err)
	}
}
