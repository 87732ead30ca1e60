package recipe

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// listPackages writes "name version architecture" of every installed package
// of the tree into a file, sorted.
func listPackages(tree, target string) error {
	f, err := os.Open(filepath.Join(tree, "var/lib/dpkg/status"))
	if err != nil {
		return fmt.Errorf("read dpkg's list of packages: %w", err)
	}
	defer f.Close()
	var lines []string
	var name, version, arch string
	installed := false
	end := func() {
		if installed && name != "" {
			lines = append(lines, fmt.Sprintf("%s %s %s\n", name, version, arch))
		}
		name, version, arch, installed = "", "", "", false
	}
	// Paragraphs of "Field: value" lines, deb-control(5); continued values
	// begin with a space.
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if scanner.Text() == "" {
			end()
			continue
		}
		field, value, _ := strings.Cut(scanner.Text(), ": ")
		switch field {
		case "Package":
			name = value
		case "Version":
			version = value
		case "Architecture":
			arch = value
		case "Status":
			installed = strings.HasSuffix(value, " installed")
		}
	}
	end()
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read dpkg's list of packages: %w", err)
	}
	sort.Strings(lines)
	if err := os.WriteFile(target, []byte(strings.Join(lines, "")), 0o644); err != nil {
		return fmt.Errorf("write the list of packages: %w", err)
	}
	return nil
}
