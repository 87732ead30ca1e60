package setup

import (
	"fmt"
	"runtime"

	"banger/internal/api"
)

// source is where the Firecracker project publishes its releases. A mirror has
// the same layout: VERSION/firecracker-VERSION-MACHINE.tgz.
const source = "https://github.com/firecracker-microvm/firecracker/releases/download"

// Release is a release of Firecracker.
type Release struct {
	Version string            // e.g. "v1.16.1"
	SHA256  map[string]string // of the archive, in hex, by machine as Go calls it
}

// Pinned is the release that banger is made for. The sums are those that the
// project publishes beside the archives, in files named like them with
// ".sha256.txt" appended.
func Pinned() Release {
	return Release{
		Version: "v1.16.1",
		SHA256: map[string]string{
			"amd64": "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6",
			"arm64": "8d0e69f6d6f9a1724551f607f18504052c16c1828ee3d4d7b6e6c73380871e0e",
		},
	}
}

// machines are the names in archives, by Go's.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// archive is a release for one machine.
type archive struct {
	version, machine, sha256 string
}

// archive returns the one for this machine.
func (r Release) archive() (archive, error) {
	sum, ok := r.SHA256[runtime.GOARCH]
	if !ok {
		return archive{}, api.Errorf(api.CodeHost, "there is no Firecracker %s for %s, so VMs run on QEMU", r.Version, runtime.GOARCH)
	}
	return archive{version: r.Version, machine: machines[runtime.GOARCH], sha256: sum}, nil
}

// name is the archive's file name.
func (a archive) name() string {
	return fmt.Sprintf("firecracker-%s-%s.tgz", a.version, a.machine)
}

// member returns the name that a program has in the archive.
func (a archive) member(program string) string {
	return fmt.Sprintf("release-%s-%s/%s-%s-%s", a.version, a.machine, program, a.version, a.machine)
}
