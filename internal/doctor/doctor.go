// Package doctor looks for what banger needs of its host: tools, permissions,
// limits and space. It runs before, and without, bangerd.
package doctor

import (
	"context"
	"fmt"
	"strings"

	"banger/internal/rootless"
)

// Status is how bad a finding is.
type Status string

// The statuses of a finding.
const (
	OK   Status = "ok"
	Warn Status = "warn" // something is slower or doesn't work
	Fail Status = "fail" // banger can't run VMs
)

// Finding is the result of one check.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`         // what was found, in words
	Cost   string `json:"cost,omitempty"` // what doesn't work because of it
	Mend   []Fix  `json:"mend,omitempty"` // commands that mend it, in order
	Advice string `json:"advice,omitempty"`
}

// Fix is a command that mends a finding.
type Fix struct {
	Argv []string `json:"argv"`
	// Package is the package that Argv installs, if it does no more than that;
	// several such fixes can be one command.
	Package string `json:"package,omitempty"`
}

// String formats the command for a shell, as root runs it.
func (f Fix) String() string { return strings.Join(f.Argv, " ") }

// Usable reports whether banger can run VMs in spite of the findings.
func Usable(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Fail {
			return false
		}
	}
	return true
}

// Fixes returns the commands that mend the findings, with one command for all
// packages. All of them need root.
func Fixes(findings []Finding) []Fix {
	var packages []string
	var others []Fix
	seen := make(map[string]bool)
	for _, f := range findings {
		for _, fix := range f.Mend {
			if seen[fix.String()] {
				continue
			}
			seen[fix.String()] = true
			if fix.Package != "" {
				packages = append(packages, fix.Package)
			} else {
				others = append(others, fix)
			}
		}
	}
	if len(packages) == 0 {
		return others
	}
	return append([]Fix{{Argv: append(aptInstall(), packages...)}}, others...)
}

func aptInstall() []string { return []string{"apt-get", "install", "-y"} }

// Run makes every check. dataDir is where images will be; it may not exist.
func Run(ctx context.Context, sys System, dataDir string) []Finding {
	var out []Finding
	for _, t := range tools(sys) {
		out = append(out, t.check(sys))
	}
	out = append(out, checkKVM(sys), checkSpace(sys, dataDir))
	if sys.UID != 0 {
		for _, f := range sys.Rootless(ctx) {
			out = append(out, fromRootless(f))
		}
	}
	return out
}

// tool is a program that banger runs.
type tool struct {
	name     string
	debian   string // package
	cost     string // without it
	optional bool
}

// tools returns the programs that every user needs.
func tools(sys System) []tool {
	return []tool{
		{name: sys.QEMU, debian: "qemu-system-x86", cost: "VMs can't run, except on Firecracker"},
		{name: "mmdebstrap", debian: "mmdebstrap", cost: "images and kernels can't be built, the default ones included"},
		{name: "npm", debian: "npm", cost: "the default image can't be built from its recipe, which has mise from npm (bundles and other images work)", optional: true},
		{name: "mke2fs", debian: "e2fsprogs", cost: "VMs get no disk"},
		{name: "git", debian: "git", cost: "repositories can't be copied into VMs", optional: true},
		{name: "ssh", debian: "openssh-client", cost: "banger vm ssh doesn't work (vm run and vm exec do)", optional: true},
	}
}

func (t tool) check(sys System) Finding {
	f := Finding{Name: t.name, Status: OK}
	path, err := sys.LookPath(t.name)
	if err == nil {
		f.Detail = path
		return f
	}
	f.Status = Fail
	if t.optional {
		f.Status = Warn
	}
	f.Detail, f.Cost = "not found", t.cost
	if _, err := sys.LookPath("apt-get"); err == nil {
		f.Mend = []Fix{{Argv: append(aptInstall(), t.debian), Package: t.debian}}
	} else {
		f.Advice = fmt.Sprintf("install %s with your package manager (Debian has it in the package %s)", t.name, t.debian)
	}
	return f
}

// fromRootless makes a finding of one about what only plain users need.
func fromRootless(r rootless.Finding) Finding {
	if r.OK {
		return Finding{Name: r.Name, Status: OK, Detail: r.Detail}
	}
	f := Finding{Name: r.Name, Status: Fail, Detail: r.Detail, Cost: "VMs and image builds need root"}
	argv := strings.Fields(strings.TrimPrefix(r.Fix, "sudo "))
	switch {
	case len(argv) == 3 && argv[0] == "apt" && argv[1] == "install":
		f.Mend = []Fix{{Argv: append(aptInstall(), argv[2]), Package: argv[2]}}
	case len(argv) > 0:
		f.Mend = []Fix{{Argv: argv}}
	}
	if len(argv) > 0 && argv[0] == "sysctl" {
		f.Advice = "put the setting into /etc/sysctl.d to keep it over a restart of the host"
	}
	return f
}
