package vm

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

func TestEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		image []string // nil: not a container's
		vm    map[string]string
		want  map[string]string
	}{
		"another image":       {nil, map[string]string{"A": "1"}, map[string]string{"A": "1"}},
		"container's, silent": {[]string{"B=2"}, nil, map[string]string{"B": "2", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"container's PATH":    {[]string{"PATH=/app", "=broken"}, nil, map[string]string{"PATH": "/app"}},
		"VM's PATH":           {[]string{"PATH=/app"}, map[string]string{"PATH": "/vm"}, map[string]string{"PATH": "/vm"}},
	} {
		rec := Record{Env: c.vm}
		if c.image != nil {
			rec.ImageConfig = &api.ImageConfig{Env: c.image}
		}
		if diff := cmp.Diff(c.want, environment(rec)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
