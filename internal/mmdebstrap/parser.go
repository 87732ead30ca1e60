package mmdebstrap

import (
	"fmt"
	"strconv"
	"strings"
)

// stage is a part of a run. mmdebstrap announces it by a line that starts
// with "I: " and prefix; then the run is from percent done, and done with the
// stage at to percent.
type stage struct {
	prefix   string
	detail   string
	from, to int
	// lines is how many lines of a package's progress (see packageLine) the
	// stage shows for every package.
	lines int
}

// stages returns the stages of a run. Their shares are of the time that they
// took when measured.
func stages(v Variant) []stage {
	if v == Extract {
		return []stage{
			{"running apt-get update", "reading the package lists", 0, 30, 0},
			{"downloading packages", "downloading packages", 30, 65, 1},
			{"extracting archives", "unpacking", 65, 95, 0},
			{"cleaning", "cleaning up", 95, 100, 0},
		}
	}
	return []stage{
		{"running apt-get update", "reading the package lists", 0, 8, 0},
		{"downloading packages", "downloading packages", 8, 15, 1},
		{"extracting archives", "unpacking", 15, 20, 0},
		{"installing essential", "installing the base", 20, 45, 2},
		{"installing remaining", "installing packages", 45, 95, 3},
		{"running --customize-hook", "configuring", 95, 98, 0},
		{"cleaning", "cleaning up", 98, 100, 0},
	}
}

// maxPackages is more than any distribution has: what is beyond it is wrong.
const maxPackages = 1 << 18

// parser makes steps of mmdebstrap's verbose output, which contains apt's and
// dpkg's.
type parser struct {
	stages []stage
	onStep func(Step)

	now         stage
	want        int // packages of this stage, as apt announced them
	lines       int // lines about packages in this stage
	packages    []Package
	unreachable string // first complaint of apt about a download
}

func newParser(v Variant, onStep func(Step)) *parser {
	if onStep == nil {
		onStep = func(Step) {}
	}
	return &parser{stages: stages(v), onStep: onStep}
}

// line takes one line of output.
func (p *parser) line(line string) {
	if info, ok := strings.CutPrefix(line, "I: "); ok {
		for _, s := range p.stages {
			if strings.HasPrefix(info, s.prefix) {
				p.now, p.lines = s, 0
				p.onStep(Step{s.detail, s.from})
			}
		}
		return
	}
	fields := strings.Fields(line)
	if len(fields) >= 5 && fields[3] == "newly" && fields[4] == "installed," {
		// 0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.
		if n, err := strconv.Atoi(fields[2]); err == nil && n >= 0 && n <= maxPackages {
			p.want = n
		}
		return
	}
	if p.unreachable == "" && strings.HasPrefix(line, "E: Failed to fetch ") {
		p.unreachable = strings.Join(strings.Fields(strings.TrimPrefix(line, "E: ")), " ")
		return
	}
	if detail := p.packageLine(fields); detail != "" {
		p.lines++
		p.report(detail)
	}
}

// packageLine returns what a line says of one package, or "".
func (p *parser) packageLine(fields []string) string {
	if len(fields) < 2 || p.now.lines == 0 {
		return ""
	}
	switch {
	case strings.HasPrefix(fields[0], "Get:") && len(fields) >= 7:
		// Get:3 URI bookworm/main amd64 libpcre2-8-0 amd64 10.42-1 [262 kB]
		if len(p.packages) < maxPackages {
			p.packages = append(p.packages, Package{Name: strings.Clone(fields[4]), Version: strings.Clone(fields[6])})
		}
		return "downloading " + fields[4]
	case fields[0] == "Unpacking" && len(fields) >= 3:
		return "unpacking " + bareName(fields[1])
	case fields[0] == "Setting" && fields[1] == "up" && len(fields) >= 4:
		return "setting up " + bareName(fields[2])
	}
	return ""
}

// bareName cuts the architecture off a package's name.
func bareName(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return name
}

func (p *parser) report(detail string) {
	percent := p.now.from
	if total := p.want * p.now.lines; total > 0 {
		percent += (p.now.to - p.now.from) * min(p.lines, total) / total
		// One count runs through the stage's download, unpacking and set-up.
		detail = fmt.Sprintf("%s (%d of %d)", detail, (p.lines-1)%p.want+1, p.want)
	}
	p.onStep(Step{detail, percent})
}
