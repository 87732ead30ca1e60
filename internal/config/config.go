// Package config reads banger's configuration file. Every key is optional.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"banger/internal/api"
	"banger/internal/weburl"
)

// Config is what is in force.
type Config struct {
	DefaultImageName string       `toml:"default_image_name"`
	SSHKeyPath       string       `toml:"ssh_key_path"`    // "": banger's own key
	CatalogURL       string       `toml:"catalog_url"`     // a catalog over the program's own; "": none
	Driver           string       `toml:"driver"`          // auto, firecracker or qemu
	FirecrackerBin   string       `toml:"firecracker_bin"` // "": the one on PATH
	Jailer           string       `toml:"jailer"`          // auto, on or off
	BridgeName       string       `toml:"bridge_name"`
	BridgeIP         netip.Addr   `toml:"bridge_ip"` // default: the first address of CIDR
	CIDR             netip.Prefix `toml:"cidr"`
	AutoBridge       bool         `toml:"-"`             // the file doesn't name a bridge
	AutoCIDR         bool         `toml:"-"`             // nor a network
	TapPoolSize      int          `toml:"tap_pool_size"` // taps made ahead while VMs run
	DefaultDNS       []netip.Addr `toml:"default_dns"`   // empty: the host's resolvers
	DefaultVCPUs     int          `toml:"default_vcpus"`
	DefaultMemoryMiB int64        `toml:"default_memory_mib"`
	DefaultDiskGiB   int64        `toml:"default_disk_gib"`
	BootTimeout      Duration     `toml:"boot_timeout"` // how long a start waits for the guest
}

// Duration is a time.Duration that is written like "90s" in the file.
type Duration time.Duration

// UnmarshalText parses what time.ParseDuration takes.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Default is the configuration without a file.
func Default() Config {
	return Config{
		DefaultImageName: "debian-bookworm",
		Driver:           "auto",
		Jailer:           "auto",
		BridgeName:       "banger0",
		CIDR:             netip.MustParsePrefix("172.16.0.0/24"),
		AutoBridge:       true,
		AutoCIDR:         true,
		DefaultVCPUs:     2,
		DefaultMemoryMiB: 2048,
		DefaultDiskGiB:   20,
		// Software emulation on a busy host is ten times slower than KVM.
		BootTimeout: Duration(5 * time.Minute),
	}
}

// Load reads the file at path over the defaults; a missing file is no error.
// An unknown key or a wrong value is an *api.Error that names its line.
func Load(path string) (Config, error) {
	c := Default()
	var lines map[string]int
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return c, fmt.Errorf("read configuration: %w", err)
	default:
		dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
		if err := dec.Decode(&c); err != nil {
			return c, decodeError(path, err)
		}
		lines = keyLines(data)
	}
	// What the file leaves open; an empty value is a wrong one.
	c.AutoBridge = lines["bridge_name"] == 0
	c.AutoCIDR = lines["cidr"] == 0 && lines["bridge_ip"] == 0
	if lines["bridge_ip"] == 0 && c.CIDR.IsValid() {
		c.BridgeIP = c.CIDR.Masked().Addr().Next()
	}
	var wrong *wrongValue
	if err := c.check(); errors.As(err, &wrong) && lines[wrong.key] > 0 {
		return c, api.Errorf(api.CodeInvalid, "%s:%d: %v", path, lines[wrong.key], err)
	} else if err != nil {
		return c, api.Errorf(api.CodeInvalid, "%s: %v", path, err)
	}
	return c, nil
}

// keyLines returns on which line each key of a valid file is set.
func keyLines(data []byte) map[string]int {
	lines := make(map[string]int)
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		if e := p.Expression(); e.Kind == unstable.KeyValue {
			key := e.Key()
			key.Next()
			// The decoder looks at no case either.
			lines[strings.ToLower(string(key.Node().Data))] = p.Shape(key.Node().Raw).Start.Line
		}
	}
	return lines
}

func decodeError(path string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, _ := first.Position()
		return api.Errorf(api.CodeInvalid, "%s:%d: there is no key %q", path, line, strings.Join(first.Key(), "."))
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, _ := wrong.Position()
		return api.Errorf(api.CodeInvalid, "%s:%d: %s", path, line, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return api.Errorf(api.CodeInvalid, "%s: %v", path, err)
}

// maxTapPool is how many ports a bridge can have at most in Linux, BR_MAX_PORTS.
const maxTapPool = 1024

// interfaceName is what Linux takes as the name of a network interface, less
// the odd characters that it would take as well.
var interfaceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`)

func (c Config) check() error {
	switch {
	case c.DefaultImageName == "":
		return wrong("default_image_name", `"": want the name of an image`)
	case c.CatalogURL != "" && !isHTTP(c.CatalogURL):
		return wrong("catalog_url", "%q: want an http or https address", weburl.Redact(c.CatalogURL))
	case !slices.Contains([]string{"auto", "firecracker", "qemu"}, c.Driver):
		return wrong("driver", "%q: want auto, firecracker or qemu", c.Driver)
	case !slices.Contains([]string{"auto", "on", "off"}, c.Jailer):
		return wrong("jailer", "%q: want auto, on or off", c.Jailer)
	case !interfaceName.MatchString(c.BridgeName):
		return wrong("bridge_name", "%q: want up to 15 letters, digits, '_', '.' or '-'", c.BridgeName)
	case !c.CIDR.IsValid():
		return wrong("cidr", `"": want an IPv4 network of /8 to /30`)
	case !c.CIDR.Addr().Is4() || c.CIDR.Bits() > 30 || c.CIDR.Bits() < 8:
		return wrong("cidr", "%s: want an IPv4 network of /8 to /30", c.CIDR)
	case !c.BridgeIP.IsValid():
		return wrong("bridge_ip", `"": want an address in cidr`)
	case !c.CIDR.Contains(c.BridgeIP):
		return wrong("bridge_ip", "%s is not in cidr %s", c.BridgeIP, c.CIDR)
	case c.TapPoolSize < 0 || c.TapPoolSize > maxTapPool:
		return wrong("tap_pool_size", "%d: want 0 to %d", c.TapPoolSize, maxTapPool)
	case c.DefaultVCPUs < 1:
		return wrong("default_vcpus", "%d: want at least 1", c.DefaultVCPUs)
	case c.DefaultMemoryMiB < 1:
		return wrong("default_memory_mib", "%d: want at least 1", c.DefaultMemoryMiB)
	case c.DefaultDiskGiB < 1:
		return wrong("default_disk_gib", "%d: want at least 1", c.DefaultDiskGiB)
	case c.BootTimeout <= 0:
		return wrong("boot_timeout", "%s: want more than 0", time.Duration(c.BootTimeout))
	}
	return nil
}

// wrongValue is what is wrong with the value of a key.
type wrongValue struct{ key, problem string }

func (e *wrongValue) Error() string { return e.key + " " + e.problem }

func wrong(key, format string, args ...any) error {
	return &wrongValue{key, fmt.Sprintf(format, args...)}
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
