package recipe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// newest returns the latest modification time below tree that is before
// started, in whole seconds: that of the newest file of a package. Whatever is
// newer was made by the build and is given this date, so that it depends on
// the packages only.
func newest(tree string, started time.Time) (time.Time, error) {
	latest := time.Unix(0, 0)
	err := filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if t := info.ModTime().Truncate(time.Second); t.After(latest) && t.Before(started.Truncate(time.Second)) {
			latest = t
		}
		return nil
	})
	return latest, err
}

// settleShadow gives the accounts' passwords, of which there are none, the
// image's date as that of their last change: shadow(5), third field, in days
// since 1970. Packages that make accounts write the day of the build.
func settleShadow(tree string, epoch time.Time) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	const name = "etc/shadow"
	data, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	day := strconv.FormatInt(epoch.Unix()/int64((24*time.Hour).Seconds()), 10)
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(line, ":")
		if len(fields) == 9 && fields[2] != "" && fields[2] != "0" { // 0 demands a new password
			fields[2] = day
		}
		b.WriteString(strings.Join(fields, ":"))
	}
	return root.WriteFile(name, []byte(b.String()), 0) // it is there and keeps its mode
}
