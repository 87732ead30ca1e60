// Package config reads banger's configuration file. Every key is optional.
package config

import (
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
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return c, fmt.Errorf("read configuration: %w", err)
	default:
		if err := c.decode(data); err != nil {
			return c, decodeError(path, err)
		}
	}
	if !c.BridgeIP.IsValid() {
		c.BridgeIP = c.CIDR.Masked().Addr().Next()
	}
	if err := c.check(); err != nil {
		return c, api.Errorf(api.CodeInvalid, "%s: %v", path, err)
	}
	return c, nil
}

// decode reads a file over c, and notes which parts of the network it leaves
// open.
func (c *Config) decode(data []byte) error {
	bridge, cidr := c.BridgeName, c.CIDR
	c.BridgeName, c.CIDR = "", netip.Prefix{}
	dec := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return err
	}
	c.AutoBridge, c.AutoCIDR = c.BridgeName == "", !c.CIDR.IsValid() && !c.BridgeIP.IsValid()
	if c.BridgeName == "" {
		c.BridgeName = bridge
	}
	if !c.CIDR.IsValid() {
		c.CIDR = cidr
	}
	return nil
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
	case c.CatalogURL != "" && !isHTTP(c.CatalogURL):
		return fmt.Errorf("catalog_url %q: want an http or https address", weburl.Redact(c.CatalogURL))
	case !slices.Contains([]string{"auto", "firecracker", "qemu"}, c.Driver):
		return fmt.Errorf("driver %q: want auto, firecracker or qemu", c.Driver)
	case !slices.Contains([]string{"auto", "on", "off"}, c.Jailer):
		return fmt.Errorf("jailer %q: want auto, on or off", c.Jailer)
	case !interfaceName.MatchString(c.BridgeName):
		return fmt.Errorf("bridge_name %q: want up to 15 letters, digits, '_', '.' or '-'", c.BridgeName)
	case !c.CIDR.Addr().Is4() || c.CIDR.Bits() > 30 || c.CIDR.Bits() < 8:
		return fmt.Errorf("cidr %s: want an IPv4 network of /8 to /30", c.CIDR)
	case !c.CIDR.Contains(c.BridgeIP):
		return fmt.Errorf("bridge_ip %s is not in cidr %s", c.BridgeIP, c.CIDR)
	case c.TapPoolSize < 0 || c.TapPoolSize > maxTapPool:
		return fmt.Errorf("tap_pool_size %d: want 0 to %d", c.TapPoolSize, maxTapPool)
	case c.DefaultVCPUs < 1:
		return fmt.Errorf("default_vcpus %d: want at least 1", c.DefaultVCPUs)
	case c.DefaultMemoryMiB < 1:
		return fmt.Errorf("default_memory_mib %d: want at least 1", c.DefaultMemoryMiB)
	case c.DefaultDiskGiB < 1:
		return fmt.Errorf("default_disk_gib %d: want at least 1", c.DefaultDiskGiB)
	case c.BootTimeout <= 0:
		return errors.New("boot_timeout: want more than 0")
	}
	return nil
}

func isHTTP(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
