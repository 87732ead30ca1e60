package mmdebstrap

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const installOutput = `I: chroot architecture amd64 is equal to the host's architecture
I: running apt-get update...
Get:1 http://mirror.invalid/debian bookworm InRelease [151 kB]
Get:5 http://mirror.invalid/debian bookworm/main amd64 Packages [8790 kB]
I: downloading packages with apt...
0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://mirror.invalid/debian bookworm/main amd64 libc6 amd64 2.36-9+deb12u14 [2759 kB]
Get:2 http://mirror.invalid/debian bookworm/main amd64 gcc-12-base amd64 12.2.0-14 [37.6 kB]
/usr/bin/dpkg --status-fd 11 --no-triggers --unpack --auto-deconfigure /x/libc6.deb
I: extracting archives...
I: installing essential packages...
Selecting previously unselected package libc6:amd64.
Preparing to unpack .../libc6_2.36-9+deb12u14_amd64.deb ...
Unpacking libc6:amd64 (2.36-9+deb12u14) ...
Unpacking gcc-12-base:amd64 (12.2.0-14) ...
Setting up libc6:amd64 (2.36-9+deb12u14) ...
Setting up gcc-12-base:amd64 (12.2.0-14) ...
I: installing remaining packages inside the chroot...
0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://mirror.invalid/debian bookworm/main amd64 git amd64 1:2.39.5-0 [7260 kB]
Unpacking git (1:2.39.5-0) ...
Setting up git (1:2.39.5-0) ...
I: running --customize-hook in shell: sh -c 'true' exec /x
I: cleaning package lists and apt cache...
I: success in 34.8298 seconds`

func TestParser(t *testing.T) {
	var got []Step
	p := newParser(MinBase, func(s Step) { got = append(got, s) })
	for line := range strings.Lines(installOutput) {
		p.line(strings.TrimSuffix(line, "\n"))
	}
	want := []Step{
		{"reading the package lists", 0},
		{"downloading packages", 8},
		{"downloading libc6 (1 of 2)", 11},
		{"downloading gcc-12-base (2 of 2)", 15},
		{"unpacking", 15},
		{"installing the base", 20},
		{"unpacking libc6 (1 of 2)", 26},
		{"unpacking gcc-12-base (2 of 2)", 32},
		{"setting up libc6 (1 of 2)", 38},
		{"setting up gcc-12-base (2 of 2)", 45},
		{"installing packages", 45},
		{"downloading git (1 of 1)", 61},
		{"unpacking git (1 of 1)", 78},
		{"setting up git (1 of 1)", 95},
		{"configuring", 95},
		{"cleaning up", 98},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	packages := []Package{{"libc6", "2.36-9+deb12u14"}, {"gcc-12-base", "12.2.0-14"}, {"git", "1:2.39.5-0"}}
	if diff := cmp.Diff(packages, p.packages); diff != "" {
		t.Error(diff)
	}
	if p.unreachable != "" {
		t.Errorf("took this for a failed download: %s", p.unreachable)
	}
}

func TestParserUnreachable(t *testing.T) {
	p := newParser(Extract, nil)
	for _, line := range []string{
		"I: running apt-get update...",
		"E: Failed to fetch http://mirror.invalid/InRelease  Temporary failure resolving 'mirror.invalid'",
		"E: Failed to fetch http://other.invalid/InRelease  Temporary failure resolving 'other.invalid'",
	} {
		p.line(line)
	}
	if want := "Failed to fetch http://mirror.invalid/InRelease Temporary failure resolving 'mirror.invalid'"; p.unreachable != want {
		t.Errorf("got %q, want %q", p.unreachable, want)
	}
}

// Stages must follow each other without gaps, or progress would jump.
func TestStages(t *testing.T) {
	for _, v := range []Variant{Extract, MinBase} {
		at := 0
		for _, s := range stages(v) {
			if s.from != at || s.to < s.from {
				t.Errorf("%s: stage %q is from %d to %d, the one before ends at %d", v, s.prefix, s.from, s.to, at)
			}
			at = s.to
		}
		if at != 100 {
			t.Errorf("%s: the last stage ends at %d", v, at)
		}
	}
}

func TestArguments(t *testing.T) {
	got := arguments(Tree{
		Variant: MinBase, Suite: "bookworm", Packages: []string{"git", "make"},
		DpkgOptions: []string{"path-exclude=/usr/share/man/*"}, Archives: []string{"/it's here.tar"}, Commands: []string{"locale-gen"},
	}, "/target")
	want := []string{
		"--verbose", "--mode=root", "--format=directory", "--variant=minbase", "--include=git,make",
		"--dpkgopt=path-exclude=/usr/share/man/*", `--customize-hook=tar-in '/it'\''s here.tar' /`, "--chrooted-customize-hook=locale-gen", "bookworm", "/target",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
