package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/transfer"
)

// Prune removes what downloads into dir have left, except for what is being
// fetched now, and returns how many bytes of the disk that frees. With dryRun
// it only counts.
func Prune(ctx context.Context, dir string, dryRun bool) (int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list downloads: %w", err)
	}
	var freed int64
	for _, e := range entries {
		if ctx.Err() != nil {
			return freed, context.Cause(ctx)
		}
		if !e.Type().IsRegular() || strings.HasSuffix(e.Name(), originSuffix) {
			continue // origins go with their files
		}
		bytes, err := pruneFile(filepath.Join(dir, e.Name()), dryRun)
		freed += bytes
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}

func pruneFile(path string, dryRun bool) (int64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a download ended
	}
	if err != nil {
		return 0, fmt.Errorf("look at a download: %w", err)
	}
	if !strings.HasSuffix(path, transfer.PartialSuffix) {
		if !dryRun {
			err = transfer.Remove(path)
		}
		return transfer.Allocated(info), err
	}
	f, err := transfer.Lock(path)
	if err != nil || f == nil {
		return 0, err
	}
	defer f.Close()
	if dryRun {
		return transfer.Allocated(info), dropIfEmpty(f)
	}
	return transfer.Allocated(info), dropPartial(f)
}
