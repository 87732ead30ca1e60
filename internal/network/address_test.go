package network

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHosts(t *testing.T) {
	cfg := Config{Gateway: netip.MustParseAddr("10.0.0.3"), Subnet: netip.MustParsePrefix("10.0.0.5/29")}
	var got []string
	for a := range Hosts(cfg) {
		got = append(got, a.String())
	}
	want := []string{"10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for a := range Hosts(cfg) { // stopping early must not panic
		if a != netip.MustParseAddr("10.0.0.1") {
			t.Errorf("first is %s", a)
		}
		break
	}
}

func TestMAC(t *testing.T) {
	got := MAC(netip.MustParseAddr("172.16.0.5"))
	if got != "02:62:ac:10:00:05" {
		t.Errorf("got %s", got)
	}
	hw, err := net.ParseMAC(got)
	if err != nil {
		t.Fatal(err)
	}
	if multicast, local := hw[0]&1 != 0, hw[0]&2 != 0; multicast || !local {
		t.Errorf("%s is not a locally administered unicast address", got)
	}
}

func TestTapNameFits(t *testing.T) {
	if got := TapName("0123456789ab"); len(got) >= unix.IFNAMSIZ {
		t.Errorf("%s has %d bytes", got, len(got))
	}
}

func TestConfigCheck(t *testing.T) {
	tests := map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"default":              {func(*Config) {}, true},
		"gateway elsewhere":    {func(c *Config) { c.Gateway = netip.MustParseAddr("172.16.1.1") }, false},
		"gateway is network":   {func(c *Config) { c.Gateway = netip.MustParseAddr("172.16.0.0") }, false},
		"gateway is broadcast": {func(c *Config) { c.Gateway = netip.MustParseAddr("172.16.0.255") }, false},
		"no gateway":           {func(c *Config) { c.Gateway = netip.Addr{} }, false},
		"too small":            {func(c *Config) { c.Subnet = netip.MustParsePrefix("172.16.0.0/31") }, false},
		"IPv6":                 {func(c *Config) { c.Subnet = netip.MustParsePrefix("fd00::/64") }, false},
		"no subnet":            {func(c *Config) { c.Subnet = netip.Prefix{} }, false},
		"long name":            {func(c *Config) { c.Bridge = "sixteen-bytes-no" }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			if err := cfg.check(); (err == nil) != tt.ok {
				t.Errorf("check: %v", err)
			}
		})
	}
}
