package catalog

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"banger/internal/api"
)

//go:embed catalog.toml
var embedded []byte

// Embedded returns the catalog that is part of the program.
func Embedded() Catalog {
	c, err := Parse(embedded)
	if err != nil {
		panic(fmt.Sprintf("the catalog in the program: %v", err)) // a test parses it
	}
	return c
}

// Parse reads a catalog. A mistake in it is an api.CodeInvalid error: an unknown
// key and what isn't TOML with its line, a wrong value with its entry.
func Parse(data []byte) (Catalog, error) {
	var c Catalog
	if err := decode("catalog", data, &c); err != nil {
		return Catalog{}, err
	}
	return c.finished()
}

// finished completes the recipes of a catalog and checks it.
func (c Catalog) finished() (Catalog, error) {
	for i, img := range c.Images {
		if img.Recipe == nil {
			continue
		}
		full, err := c.complete(*img.Recipe)
		if err != nil {
			return Catalog{}, api.Errorf(api.CodeInvalid, "catalog: image %s: %v", img.Name, err)
		}
		full.Distro, full.Kernel = img.Distro, img.Kernel
		c.Images[i].Recipe = &full
	}
	if err := c.check(); err != nil {
		return Catalog{}, api.Errorf(api.CodeInvalid, "catalog: %v", err)
	}
	return c, nil
}

// ParseRecipe reads a recipe of the user's, which has the keys of an
// [image.recipe] at its top level. Its base is one of the program's catalog.
// Errors are like those of Parse; they name the file.
func ParseRecipe(path string) (ImageRecipe, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ImageRecipe{}, api.Errorf(api.CodeNotFound, "there is no recipe %s", path)
	}
	if err != nil {
		return ImageRecipe{}, fmt.Errorf("read the recipe: %w", err)
	}
	var r ImageRecipe
	if err := decode(path, data, &r); err != nil {
		return ImageRecipe{}, err
	}
	if r, err = Embedded().complete(r); err == nil {
		err = r.check()
	}
	if err != nil {
		return ImageRecipe{}, api.Errorf(api.CodeInvalid, "%s: %v", path, err)
	}
	return r, nil
}

// decode decodes TOML; name is what errors call it.
func decode(name string, data []byte, v any) error {
	err := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields().Decode(v)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, _ := first.Position()
		return api.Errorf(api.CodeInvalid, "%s:%d: there is no key %.80q", name, line, strings.Join(first.Key(), "."))
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, _ := wrong.Position()
		return api.Errorf(api.CodeInvalid, "%s:%d: %s", name, line, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	if err != nil {
		return api.Errorf(api.CodeInvalid, "%s: %v", name, err)
	}
	return nil
}
