package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"banger/internal/api"
)

// validate checks TOML against the schema that editors use.
func validate(t *testing.T, data []byte) error {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	schema, err := compiler.Compile("catalog.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var decoded map[string]any
	if err := toml.Unmarshal(data, &decoded); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

func TestEmbeddedFollowsSchema(t *testing.T) {
	if err := validate(t, embedded); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"unknown key":  strings.Replace(string(embedded), "distro =", "distribution =", 1),
		"unknown arch": strings.Replace(string(embedded), `arch = ["amd64", "arm64"]`, `arch = ["x86"]`, 1),
		"no recipe":    "[[kernel]]\nname='x'\ndescription='x'\narch=['amd64']\ndisk_bytes=1\n",
	} {
		if err := validate(t, []byte(text)); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

// Mistakes in a recipe would show only after minutes of building.
func TestEmbedded(t *testing.T) {
	c := Embedded()
	for _, want := range []string{"debian-bookworm", "debian-minimal"} {
		if _, ok := c.Image(want); !ok {
			t.Errorf("there is no image %s", want)
		}
	}
	for _, want := range []string{"generic-6.12", "generic-6.1"} {
		if _, ok := c.Kernel(want); !ok {
			t.Errorf("there is no kernel %s", want)
		}
	}
	for _, img := range c.Images {
		k, ok := c.Kernel(img.Kernel)
		if !ok {
			t.Errorf("image %s: there is no kernel %s", img.Name, img.Kernel)
		}
		for _, arch := range img.Arch {
			if !slices.Contains(k.Arch, arch) {
				t.Errorf("image %s: kernel %s isn't for %s", img.Name, img.Kernel, arch)
			}
		}
		r := img.Recipe
		if r.Distro != img.Distro || r.Kernel != img.Kernel || r.Base != "" || r.DownloadBytes == 0 {
			t.Errorf("image %s: the recipe isn't complete: %+v", img.Name, r)
		}
		if !slices.Contains(r.Packages, "systemd") || !slices.Contains(r.RealDirs, "/var/lib/docker") {
			t.Errorf("image %s: the recipe lacks what its base has", img.Name)
		}
		for _, p := range r.NPM {
			if !slices.Contains(img.Arch, p.Arch) {
				t.Errorf("image %s: %s is for %s, the image isn't", img.Name, p.Package, p.Arch)
			}
		}
		for what, list := range map[string][]string{
			"packages": r.Packages, "masked": r.Masked, "remove": r.Remove, "real_dirs": r.RealDirs,
		} {
			if sorted := slices.Sorted(slices.Values(list)); len(slices.Compact(sorted)) != len(list) {
				t.Errorf("image %s: %s has something twice", img.Name, what)
			}
		}
	}
}

const bundleImage = `
[[image]]
name = "alpine"
description = "Alpine"
distro = "alpine 3.20"
arch = ["amd64"]
kernel = "generic-6.12"
disk_bytes = 1
bundle = [{ arch = "amd64", url = "https://images.example/alpine.tar.zst", sha256 = "` + someHash + `", bytes = 7 }]
`

const someHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	c, err := Parse([]byte(bundleImage))
	if err != nil {
		t.Fatal(err)
	}
	img, _ := c.Image("alpine")
	got, ok := img.BundleFor("amd64")
	want := Bundle{Arch: "amd64", URL: "https://images.example/alpine.tar.zst", SHA256: someHash, Bytes: 7}
	if !ok || got != want {
		t.Errorf("got %+v, %t", got, ok)
	}
	if _, ok := img.BundleFor("arm64"); ok {
		t.Error("there is a bundle for arm64")
	}
}

func TestParseErrors(t *testing.T) {
	recipe := strings.Replace(bundleImage, "bundle = [{", "\n[image.recipe]\nsuite='bookworm'\n#", 1)
	for name, c := range map[string]struct{ text, want string }{
		"syntax":      {"[[image]]\nname = \n", "catalog:2:"},
		"unknown key": {bundleImage + "sizes = 3\n", `catalog:10: there is no key "image.sizes"`},
		"type":        {"[[image]]\nname = 3\n", "catalog:2:"},
		"name":        {strings.Replace(bundleImage, `"alpine"`, `"../x"`, 1), `image "../x": the name`},
		"twice":       {bundleImage + bundleImage, `image "alpine" is there twice`},
		"arch":        {strings.Replace(bundleImage, `["amd64"]`, `["x86"]`, 1), `arch "x86"`},
		"no bundle":   {strings.Replace(bundleImage, `["amd64"]`, `["amd64", "arm64"]`, 1), "neither a recipe nor a bundle for arm64"},
		"no hash":     {strings.Replace(bundleImage, someHash, "", 1), "want 64 hexadecimal digits"},
		"big hash":    {strings.Replace(bundleImage, someHash, strings.ToUpper(someHash), 1), "want 64 hexadecimal digits"},
		"file url":    {strings.Replace(bundleImage, "https://", "file://", 1), "want http or https"},
		"no base":     {recipe + "base = 'x'\n", `there is no base or image "x"`},
		"circle":      {recipe + "base = 'a'\n[base.a]\nbase = 'b'\n[base.b]\nbase = 'a'\n", "circle"},
		"package":     {recipe + "packages = ['git make']\n", `package "git make"`},
		"outside":     {recipe + "remove = ['../etc/passwd']\n", `path "../etc/passwd"`},
		"absolute":    {recipe + "empty = ['/dev']\n", `path "/dev"`},
		"unit":        {recipe + "masked = ['../x.service']\n", `"../x.service" is not the name of a systemd unit`},
		"real dir":    {recipe + "real_dirs = ['root']\n", `"root" is not an absolute path`},
		"mode":        {recipe + "file = [{ path = 'etc/x' }]\n", "mode"},
		"npm version": {recipe + "npm = [{ arch = 'amd64', package = 'x', version = 'latest' }]\n", "want an exact one"},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
			continue
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeInvalid {
			t.Errorf("%s: %v is not an error of the user's", name, err)
		}
	}
}

func TestParseRecipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.toml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`
base = "debian-minimal"
kernel = "generic-6.1"
packages = ["golang"]
run = ["go version"]
real_dirs = ["/srv"]

[[file]]
path = "etc/fstab"
mode = 0o600
content = "mine"
`)
	r, err := ParseRecipe(path)
	if err != nil {
		t.Fatal(err)
	}
	minimal, _ := Embedded().Image("debian-minimal")
	want := *minimal.Recipe
	want.Kernel = "generic-6.1"
	want.Packages = append(want.Packages, "golang")
	want.Run = []string{"go version"}
	want.RealDirs = append(want.RealDirs, "/srv")
	want.Files = slices.DeleteFunc(want.Files, func(f File) bool { return f.Path == "etc/fstab" })
	want.Files = append(want.Files, File{Path: "etc/fstab", Mode: 0o600, Content: "mine"})
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}

	write("suite = 'bookworm'\npackage = ['git']\n")
	if _, err := ParseRecipe(path); err == nil || !strings.Contains(err.Error(), path+`:2: there is no key "package"`) {
		t.Errorf("got %v", err)
	}
	write("packages = ['git']\n")
	if _, err := ParseRecipe(path); err == nil || !strings.Contains(err.Error(), `suite "" is not the name of one`) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseRecipe(path + "x"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestExtend(t *testing.T) {
	c := Catalog{
		Images:  []Image{{Name: "a", Distro: "old"}, {Name: "b"}},
		Kernels: []Kernel{{Name: "k"}},
	}
	other := Catalog{
		Images:  []Image{{Name: "c"}, {Name: "a", Distro: "new"}},
		Kernels: []Kernel{{Name: "l"}},
	}
	want := Catalog{
		Images:  []Image{{Name: "a", Distro: "new"}, {Name: "b"}, {Name: "c"}},
		Kernels: []Kernel{{Name: "k"}, {Name: "l"}},
	}
	if diff := cmp.Diff(want, c.Extend(other)); diff != "" {
		t.Error(diff)
	}
	if c.Images[0].Distro != "old" {
		t.Error("the catalog itself has changed")
	}
}
