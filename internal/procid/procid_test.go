package procid

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for comm, ok := range map[string]bool{
		"(cat)":                 true,
		"(a b) c)":              true,
		"(x) S 1 (y) Z 2 3 )":   true,
		"(\n) R 9 9 9 9 9 9 9)": true,
		"cat":                   false,
	} {
		stat, err := parse([]byte("123 " + comm + rest))
		if (err == nil) != ok || ok && stat != (Stat{State: 'S', Terminal: true, StartTime: 4711}) {
			t.Errorf("%q: got %+v, %v", comm, stat, err)
		}
	}
	for _, short := range []string{"", "1 (", "1 (a)", "1 (a) S 1 2 3", "1 ()" + strings.Repeat(" S", 30)} {
		if _, err := parse([]byte(short)); err == nil {
			t.Errorf("%q is accepted", short)
		}
	}
}
