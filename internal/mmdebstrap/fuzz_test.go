package mmdebstrap

import (
	"strings"
	"testing"
)

func FuzzParser(f *testing.F) {
	f.Add("I: downloading packages\n0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\n" +
		"Get:1 http://deb.example bookworm/main amd64 a amd64 1.0 [2 kB]\nI: installing remaining\nUnpacking a:amd64 (1.0) ...\nSetting up a:amd64 (1.0) ...\n")
	f.Add("I: downloading packages\n0 upgraded, 9223372036854775807 newly installed, 0\nGet:1 a b c d e f\n")
	f.Add("E: Failed to fetch http://x  404\n")
	f.Fuzz(func(t *testing.T, output string) {
		for _, variant := range []Variant{Extract, MinBase} {
			var p *parser
			p = newParser(variant, func(s Step) {
				if s.Percent < p.now.from || s.Percent > p.now.to {
					t.Errorf("%d percent at %q, in a stage from %d to %d", s.Percent, s.Detail, p.now.from, p.now.to)
				}
			})
			for line := range strings.SplitSeq(output, "\n") {
				p.line(line)
			}
			if p.want < 0 || p.want > maxPackages {
				t.Errorf("%d packages are expected", p.want)
			}
		}
	})
}
