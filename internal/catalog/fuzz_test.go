package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"banger/internal/api"
)

// A catalog of a server is small, and so must be the work that it makes.
func TestRemoteManyEntries(t *testing.T) {
	var text strings.Builder
	n := 0
	for ; text.Len() < maxRemote-2*len(bundleImage); n++ {
		text.WriteString(strings.Replace(bundleImage, "alpine", fmt.Sprintf("a%d", n), 1))
	}
	c, err := parseRemote([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(Embedded().Extend(c).Images); got < n {
		t.Errorf("%d images, want more than %d", got, n)
	}
}

// Recipes that stand on the same long one would fill the memory.
func TestRemoteRecipesAreNotCompleted(t *testing.T) {
	text := "[base.long]\nsuite = 'bookworm'\npackages = [" + strings.Repeat("'aa',", 100_000) + "]\n" +
		strings.Repeat("[[image]]\nrecipe = { base = 'long' }\n", 10_000)
	if _, err := parseRemote([]byte(text)); err == nil || !strings.Contains(err.Error(), "[base]") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(embedded)
	f.Add([]byte(bundleImage))
	f.Add([]byte("[base.x]\nsuite = 'trixie'\n[[image]]\nname = 'i'\ndistro = 'd'\narch = ['amd64']\nkernel = 'generic-6.12'\nrecipe = { base = 'x' }\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse(data)
		if err != nil && !errors.Is(err, api.ErrInvalid) {
			t.Errorf("the error is not about the catalog: %v", err)
		}
		c, err := parseRemote(data)
		if err != nil {
			return
		}
		for _, img := range Embedded().Extend(c).Images {
			if !isEntryName(img.Name) || !isEntryName(img.Kernel) {
				t.Errorf("image %q with kernel %q", img.Name, img.Kernel)
			}
		}
		for _, img := range c.Images {
			if img.Recipe != nil || len(img.Bundles) == 0 {
				t.Errorf("image %q is not of a bundle", img.Name)
			}
		}
		for _, k := range c.Kernels {
			if k.Recipe != nil || len(k.Bundles) == 0 || !isEntryName(k.Name) {
				t.Errorf("kernel %q is not of a bundle", k.Name)
			}
		}
	})
}
