package kernel

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/api"
)

// moduleTree is a kernel's directory in /lib/modules.
type moduleTree struct {
	files   map[string]string // module name → uncompressed .ko file
	builtin map[string]bool   // module names that are part of vmlinux

	aliases map[string][]string // alias → modules that have it; nil until it is asked for
}

// scanModules reads a directory in /lib/modules whose modules have been
// uncompressed.
func scanModules(dir string) (*moduleTree, error) {
	t := &moduleTree{files: make(map[string]string), builtin: make(map[string]bool)}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read the list of built-in modules: %w", err)
	}
	for _, path := range strings.Fields(string(list)) {
		t.builtin[moduleName(path)] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".ko") {
			t.files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	return t, nil
}

// moduleName returns the name that the kernel gives to a module file. It
// takes - and _ for the same.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return normalise(name)
}

func normalise(name string) string { return strings.ReplaceAll(name, "-", "_") }

// loadOrder returns the files of the wanted modules and of all that they
// depend on, each after what it depends on. Built-in ones are left out, and so
// are ones that don't exist, unless they are required.
func (t *moduleTree) loadOrder(wanted []wantedModule) ([]string, error) {
	o := &ordering{tree: t, state: make(map[string]visit)}
	for _, w := range wanted {
		name := normalise(w.Name)
		if _, ok := t.files[name]; !ok && !t.builtin[name] {
			if w.Required {
				return nil, api.Errorf(api.CodeInvalid, "the kernel has no module %s, which every boot needs", w.Name).
					WithHint("use one with virtio, ext4 and overlayfs, built in or as modules")
			}
			continue
		}
		if err := o.visit(name); err != nil {
			return nil, err
		}
	}
	return o.files, nil
}

// ordering is a depth-first search through dependencies.
type ordering struct {
	tree  *moduleTree
	state map[string]visit
	files []string
}

type visit int

const (
	unseen visit = iota
	open         // its dependencies are being visited
	listed
)

func (o *ordering) visit(name string) error {
	if o.tree.builtin[name] || o.state[name] == listed {
		return nil
	}
	if o.state[name] == open {
		return fmt.Errorf("module %s depends on itself", name)
	}
	o.state[name] = open
	file, ok := o.tree.files[name]
	if !ok {
		return fmt.Errorf("module %s is missing", name)
	}
	info, err := readModinfo(file)
	if err != nil {
		return fmt.Errorf("read what module %s depends on: %w", name, err)
	}
	for _, dep := range info.depends {
		if err := o.visit(dep); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	for _, dep := range info.softdeps {
		for _, provider := range o.tree.providers(dep) {
			if o.state[provider] == open {
				continue
			}
			if err := o.visit(provider); err != nil {
				return fmt.Errorf("load module %s: %w", name, err)
			}
		}
	}
	o.state[name] = listed
	o.files = append(o.files, file)
	return nil
}

// providers returns the modules that a soft dependency stands for: it may be the
// name of one or an alias of some (ext4 wants "crc32c", for which there is one
// module in C and one for each kind of processor). There may be none.
func (t *moduleTree) providers(name string) []string {
	if _, ok := t.files[name]; ok {
		return []string{name}
	}
	if t.aliases == nil {
		t.aliases = make(map[string][]string)
		for _, module := range slices.Sorted(maps.Keys(t.files)) {
			info, err := readModinfo(t.files[module])
			if err != nil {
				continue // whoever needs that module is told
			}
			for _, alias := range info.aliases {
				t.aliases[alias] = append(t.aliases[alias], module)
			}
		}
	}
	return t.aliases[name]
}

// Bounds on modules: what is read of one takes some times as much memory.
const (
	maxModule  = 256 << 20
	maxModinfo = 1 << 20
)

var errModuleSize = errors.New("it is larger than 256 MiB")

// modinfo is what a module says of itself.
type modinfo struct {
	depends  []string // modules without which it doesn't load
	softdeps []string // modules, or aliases of some, to load before it, if possible
	aliases  []string
}

// readModinfo reads the .modinfo section of a module: strings key=value, each
// ended by a zero byte (include/linux/moduleparam.h, __MODULE_INFO; the build
// adds "depends", scripts/mod/modpost.c).
func readModinfo(path string) (modinfo, error) {
	if info, err := os.Stat(path); err != nil || info.Size() > maxModule {
		return modinfo{}, cmp.Or(err, errModuleSize)
	}
	f, err := elf.Open(path)
	if err != nil {
		return modinfo{}, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return modinfo{}, errors.New("it has no section .modinfo")
	}
	if section.Size > maxModinfo {
		return modinfo{}, fmt.Errorf("its section .modinfo has %d bytes", section.Size)
	}
	data, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("read the section .modinfo: %w", err)
	}
	var info modinfo
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "depends": // a,b,c
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					info.depends = append(info.depends, normalise(name))
				}
			}
		case "alias":
			info.aliases = append(info.aliases, normalise(value))
		case "softdep": // pre: a b post: c; modprobe.d(5)
			before := false
			for _, word := range strings.Fields(value) {
				switch {
				case strings.HasSuffix(word, ":"):
					before = word == "pre:"
				case before:
					info.softdeps = append(info.softdeps, normalise(word))
				}
			}
		}
	}
	return info, nil
}
