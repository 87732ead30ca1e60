package network

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func testConfig() Config {
	return Config{
		Owner:   "0123456789ab",
		Bridge:  "banger0",
		Gateway: netip.MustParseAddr("172.16.0.1"),
		Subnet:  netip.MustParsePrefix("172.16.0.0/24"),
	}
}

func TestRenderGolden(t *testing.T) {
	other := Config{
		Bridge: "br-test.1", Gateway: netip.MustParseAddr("10.9.255.254"), Subnet: netip.MustParsePrefix("10.8.0.0/15"),
	}
	var addrs []netip.Addr
	for _, a := range []string{"192.0.2.7", "::1", "192.0.2.2", "::ffff:192.0.2.7"} {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	rulesets := map[string]Ruleset{
		"default": Render(testConfig()), "other": Render(other),
		"host_ports": Render(testConfig(), HostPort{netip.MustParseAddr(addrA), 5432, 40001}, HostPort{netip.MustParseAddr(addrB), 80, 40002}),
		"port":       RenderPort(TapName("0123456789ab"), netip.MustParseAddr("172.16.0.5")),
		"block":      RenderBlock(addrs), "block_nothing": RenderBlock(nil),
	}
	for name, rules := range rulesets {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".nft.golden")
			got := rules.String()
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("rules differ from %s (-update accepts them):\n%s", path, diff)
			}
		})
	}
}

func TestTableNamesDiffer(t *testing.T) {
	names := map[string]string{}
	for _, bridge := range []string{"banger0", "br-a", "br_a", "br.a", "br_2da"} {
		name := tableName(bridge)
		if other, taken := names[name]; taken {
			t.Errorf("bridges %s and %s share the table %s", bridge, other, name)
		}
		names[name] = bridge
	}
}
