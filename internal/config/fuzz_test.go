package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/api"
)

func FuzzLoad(f *testing.F) {
	f.Add("driver = \"qemu\"\ncidr = \"10.0.0.0/16\"\ndefault_dns = [\"1.1.1.1\"]\nboot_timeout = \"90s\"\n")
	f.Add("bridge_ip = \"172.16.0.9\"\ncatalog_url = \"https://x.example/c.toml\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil {
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("the error is not about the file: %v", err)
			}
			return
		}
		if !interfaceName.MatchString(c.BridgeName) || !c.CIDR.Contains(c.BridgeIP) || !c.BridgeIP.Is4() || c.BootTimeout <= 0 {
			t.Errorf("got %+v", c)
		}
	})
}
