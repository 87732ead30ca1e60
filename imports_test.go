package banger

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the layering of the design (docs/architecture.md): for every
// package of the module, which others of the module it may import directly.
// Test files are exempt. A package that isn't listed fails the test.
var mayImport = map[string][]string{
	// Leaves: no logic of the product, or none that needs another package.
	"internal/api":         {},
	"internal/paths":       {},
	"internal/undo":        {},
	"internal/version":     {},
	"internal/store":       {"internal/room"},
	"internal/sshkey":      {},
	"internal/daemonlog":   {},
	"internal/procid":      {},
	"internal/guard":       {},
	"internal/regularfile": {},
	"internal/filelock":    {},
	"internal/guest":       {},
	"internal/weburl":      {},
	"internal/terminfo":    {"internal/regularfile"},
	"internal/config":      {"internal/api", "internal/weburl"},
	"internal/doctor":      {"internal/api", "internal/paths", "internal/rootless"},
	"internal/catalog":     {"internal/naming", "internal/api", "internal/weburl"},
	"internal/instance":    {"internal/api"},
	"internal/naming":      {"internal/api"},
	"internal/room":        {"internal/api"},

	"internal/guest/halfclose": {},
	"internal/guest/serialmux": {},

	// Mechanisms: one job each, unaware of each other.
	"internal/network":   {"internal/api", "internal/filelock", "internal/undo"},
	"internal/rootless":  {"internal/api", "internal/filelock", "internal/paths", "internal/procid", "internal/undo"},
	"internal/initramfs": {"internal/hosttool", "internal/paths", "internal/room"},
	"internal/kernel": {"internal/naming", "internal/api", "internal/bundle", "internal/catalog", "internal/depot", "internal/diskusage",
		"internal/hosttool", "internal/image/ext4", "internal/mmdebstrap", "internal/paths", "internal/room"},
	"internal/image": {"internal/naming", "internal/api", "internal/bundle", "internal/catalog", "internal/depot", "internal/diskusage", "internal/download",
		"internal/image/ext4", "internal/image/oci", "internal/image/oci/flatten", "internal/image/recipe", "internal/paths", "internal/room"},
	"internal/image/recipe": {"internal/api", "internal/catalog", "internal/depot", "internal/hosttool", "internal/image/ext4",
		"internal/mmdebstrap"},
	"internal/vmm":       {"internal/api", "internal/guest", "internal/procid"},
	"internal/diskusage": {"internal/api", "internal/paths"},
	"internal/transfer":  {},
	"internal/download":  {"internal/naming", "internal/api", "internal/hosttool", "internal/room", "internal/transfer", "internal/weburl"},
	"internal/bundle":    {"internal/api", "internal/download", "internal/hosttool", "internal/weburl", "internal/regularfile", "internal/room"},
	"internal/setup":     {"internal/api", "internal/depot", "internal/download", "internal/filelock", "internal/hosttool", "internal/room"},

	// Images of OCI registries: pulled, flattened, written as ext4.
	"internal/image/oci":           {"internal/api", "internal/image/oci/flatten", "internal/regularfile", "internal/room", "internal/transfer", "internal/weburl", "internal/ctxreader"},
	"internal/image/oci/flatten":   {"internal/api", "internal/room", "internal/ctxreader"},
	"internal/image/oci/layertest": {}, // for tests only
	"internal/image/ext4":          {"internal/api", "internal/room", "internal/ctxreader"},
	"internal/tartest":             {}, // for tests only
	"internal/conntest":            {}, // for tests only
	"internal/lockedbuffer":        {}, // for tests only
	"internal/ctxreader":           {},

	// What building kernels and images has in common.
	"internal/hosttool":   {"internal/api"},
	"internal/depot":      {"internal/naming", "internal/api", "internal/hosttool", "internal/room"},
	"internal/mmdebstrap": {"internal/api", "internal/hosttool"},

	"internal/vmm/kvmprobe":    {"internal/api"},
	"internal/vmm/qemu":        {"internal/api", "internal/room", "internal/vmm", "internal/vmm/kvmprobe", "internal/guest", "internal/guest/serialmux"},
	"internal/vmm/firecracker": {"internal/api", "internal/guest", "internal/guest/halfclose", "internal/undo", "internal/vmm", "internal/vmm/kvmprobe"},
	"internal/vmm/vmmtest":     {"internal/guest", "internal/procid", "internal/vmm"},

	// Policy.
	"internal/vm": {"internal/naming", "internal/api", "internal/paths", "internal/undo", "internal/store", "internal/sshkey",
		"internal/guard", "internal/guest", "internal/hosttool", "internal/image", "internal/kernel",
		"internal/network", "internal/vmm", "internal/regularfile", "internal/room"},
	"internal/workspace":   {"internal/api", "internal/guest", "internal/regularfile"},
	"internal/session":     {"internal/api", "internal/guest"},
	"internal/dockerbuild": {"internal/api", "internal/guest", "internal/session", "internal/regularfile"},

	// Edges.
	"internal/daemon": {"internal/api", "internal/guest", "internal/paths", "internal/version"},
	"internal/client": {"internal/api", "internal/daemonlog", "internal/filelock", "internal/guest", "internal/paths", "internal/version"},
	"internal/cli": {"internal/naming", "internal/api", "internal/cli/progress", "internal/cli/termtext", "internal/client", "internal/doctor", "internal/guest",
		"internal/paths", "internal/session", "internal/setup", "internal/terminfo", "internal/version"},
	"internal/cli/mandoc":        {"internal/cli"},
	"internal/cli/progress":      {"internal/api", "internal/cli/termtext"},
	"internal/cli/termtext":      {},
	"internal/daemon/daemontest": {"internal/api", "internal/guest"}, // for tests only

	// The guest's side.
	"internal/agent/cgroup":  {},
	"internal/agent/openssh": {"internal/agent/cgroup"},
	"internal/agent": {"internal/agent/cgroup", "internal/agent/openssh", "internal/agent/sshd", "internal/guest", "internal/guest/halfclose",
		"internal/guest/serialmux"},
	"internal/agent/sshd": {"internal/agent/cgroup", "internal/guest", "internal/terminfo"},

	// Wiring.
	"cmd/banger":             {"internal/cli"},
	"cmd/banger-vsock-agent": {"internal/agent", "internal/version"},
}

// anywhere are the leaves that every package may import, as if they were of the
// language.
var anywhere = []string{"internal/guard"}

// anything marks the packages where everything meets.
var anything = []string{"cmd/bangerd"}

func TestImports(t *testing.T) {
	for _, pkg := range modulePackages(t) {
		name := strings.TrimPrefix(pkg.ImportPath, "banger/")
		if name == "banger" || strings.HasPrefix(name, "test/") || slices.Contains(anything, name) {
			continue
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no line in mayImport: decide which layer it is of", name)
			continue
		}
		for _, imported := range pkg.Imports {
			other, ours := strings.CutPrefix(imported, "banger/")
			if ours && !slices.Contains(allowed, other) && !slices.Contains(anywhere, other) {
				t.Errorf("%s must not import %s", name, other)
			}
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func modulePackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("decode the output of go list: %v", err)
		}
		packages = append(packages, p)
	}
}
