package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger/internal/regularfile"
)

// patternSettings name files of patterns. The user's own are git's to read; a
// repository's could be any file.
var patternSettings = []string{"core.excludesFile", "core.attributesFile"}

// ownPatterns is a file of patterns that the configuration of the repository
// itself names.
type ownPatterns struct {
	setting string // one of patternSettings, in lower case
	path    string // without symbolic links
	inTree  bool   // whether it is in the working tree, and not in .git
	data    []byte
}

// readOwnPatterns reads the files of patterns that the repository names, if
// they are part of it or the user has declared them safe. Of others it makes
// notes. Like git, it takes no notice of what isn't there.
func (r *repository) readOwnPatterns() {
	for _, name := range patternSettings {
		setting := strings.ToLower(name)
		value := r.ownSetting(setting)
		if value == "" {
			continue
		}
		path, err := filepath.EvalSymlinks(absolute(r.top, expandHome(value)))
		if err != nil {
			continue
		}
		inGit := isBelow(path, r.gitDir) || isBelow(path, r.commonDir)
		inTree := isBelow(path, r.top) && !inGit
		if !inGit && !inTree && !r.isSafe(path) {
			r.notes = append(r.notes, "its configuration takes "+name+" from "+value+", which isn't in the repository, and so was left out of account")
			continue
		}
		data, err := regularfile.Read(path, 0, maxConfigFile)
		if err != nil {
			continue // git couldn't use it either
		}
		r.patterns = append(r.patterns, ownPatterns{setting, path, inTree, data})
	}
}

// writeOwnPatterns puts what readOwnPatterns has read into the view.
func (r *repository) writeOwnPatterns() error {
	for _, p := range r.patterns {
		if err := writeFile(r.view.common, p.setting, p.data); err != nil {
			return err
		}
	}
	return nil
}

// patternsFor are the settings that name the repository's own files of
// patterns. The guest reads those of the working tree, if they have been copied:
// others, such as .git/config itself, may hold what isn't meant for it.
func (r *repository) patternsFor(purpose configFor) []setting {
	var settings []setting
	for _, p := range r.patterns {
		section, name, _ := strings.Cut(p.setting, ".")
		path := filepath.Join(r.view.common, p.setting)
		if purpose == configOfCopy || purpose == configOfClean {
			rel, err := filepath.Rel(r.top, p.path)
			if !p.inTree || err != nil {
				continue
			}
			path = rel
		}
		settings = append(settings, setting{section: section, name: name, value: path})
	}
	return settings
}

// hasOwnPatterns reports whether a file of the repository's own takes the place
// of the user's.
func (r *repository) hasOwnPatterns(setting string) bool {
	return slices.ContainsFunc(r.patterns, func(p ownPatterns) bool { return p.setting == setting })
}

// noteFilters notes which filters only the repository itself defines, as
// git-crypt does: neither here nor in the guest does git know them.
func (r *repository) noteFilters() error {
	attributes, err := readExtra(r.top, ".gitattributes")
	if err != nil {
		return err
	}
	info, err := readExtra(r.commonDir, "info/attributes")
	if err != nil {
		return err
	}
	words := strings.Fields(string(slices.Concat(attributes, []byte("\n"), info)))
	known := func(s setting) bool {
		return slices.ContainsFunc(r.user, func(u setting) bool { return u.section == "filter" && u.sub == s.sub })
	}
	var names []string
	for _, s := range r.settings[len(r.user):] {
		if s.section == "filter" && !slices.Contains(names, s.sub) && slices.Contains(words, "filter="+s.sub) && !known(s) {
			names = append(names, s.sub)
		}
	}
	if len(names) > 0 {
		r.notes = append(r.notes, "only its own configuration has the filter "+strings.Join(names, ", ")+
			", which doesn't run: git may call unchanged files of it modified in the VM")
	}
	return nil
}

// readUsersFile reads a file that the user's own configuration names, wherever
// that is. git goes on without it if it can't be read.
func readUsersFile(path string) []byte {
	data, err := regularfile.Read(path, 0, maxStateFile)
	if err != nil {
		return nil
	}
	return data
}

// userPatternsDefault is where git looks for the user's ignore patterns unless
// told otherwise; "" if there is no home.
func userPatternsDefault() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "git", "ignore")
}
