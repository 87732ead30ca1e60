package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"
)

// WriteManPages writes a manual page for every command into dir.
func WriteManPages(dir string) error {
	root := newRoot(newEnv(os.Stdin, os.Stdout, os.Stderr, nil))
	root.DisableAutoGenTag = true // no date, so that builds are the same
	header := &doc.GenManHeader{Title: "BANGER", Section: "1", Source: "banger", Manual: "banger manual"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("write manual pages to %s: %w", dir, err)
	}
	return nil
}
