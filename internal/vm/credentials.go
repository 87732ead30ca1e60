package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/guest"
)

// credentialFiles are what coding agents keep their log-ins in, relative to
// the home directory on both sides. Nothing else of those folders is copied.
var credentialFiles = []string{
	".local/share/opencode/auth.json",
	".claude/.credentials.json",
	".pi/agent/auth.json",
}

// Credentials reads those credential files of the user that exist, for the
// same places below the guest's /root.
func Credentials(home string) ([]guest.File, error) {
	var files []guest.File
	for _, name := range credentialFiles {
		data, err := os.ReadFile(filepath.Join(home, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		files = append(files, guest.File{Path: "/root/" + name, Mode: 0o600, Data: data})
	}
	return files, nil
}
