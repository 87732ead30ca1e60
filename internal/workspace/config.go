package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"banger/internal/api"
)

// copiedSettings lists by "section.name" what goes into the guest's
// configuration, from wherever git on the host takes it. A list of what is
// allowed and not of what is forbidden, because settings can hold secrets
// (http.extraHeader), name programs (core.sshCommand, credential.helper) and
// include other files. Values that are URLs lose their credentials.
var copiedSettings = []string{
	"core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode",
	"core.autocrlf", "core.eol", "core.quotepath", "core.abbrev", "core.commentchar", "core.whitespace",
	"user.name", "user.email",
	"push.default", "push.autosetupremote", "pull.rebase", "pull.ff", "merge.conflictstyle",
	"rebase.autostash", "rebase.autosquash", "diff.renames", "diff.ignoresubmodules",
	"status.showuntrackedfiles", "status.renames",
	"remote.pushdefault", "submodule.active", "submodule.recurse",
}

// copiedSubSettings are those with a name between section and variable.
var copiedSubSettings = []string{
	"remote.url", "remote.pushurl", "remote.fetch", "remote.push", "remote.tagopt", "remote.prune",
	"remote.prunetags", "remote.mirror", "remote.skipdefaultupdate", "remote.skipfetchall",
	"branch.remote", "branch.merge", "branch.rebase", "branch.pushremote", "branch.description",
	"submodule.url", "submodule.active", "submodule.branch", "submodule.ignore",
	"submodule.update", "submodule.fetchrecursesubmodules",
}

// partialSettings are what a partial clone needs to fetch what it lacks.
var partialSettings = []string{"extensions.partialclone", "remote.promisor", "remote.partialclonefilter"}

// sparseSettings go with a working tree that has only some of the files.
var sparseSettings = []string{"core.sparsecheckout", "core.sparsecheckoutcone", "index.sparse"}

// refStorageSetting tells whether refs are files or in tables.
const refStorageSetting = "extensions.refstorage"

// setting is one value of git's configuration, see git-config(1).
type setting struct {
	section string // lower case
	sub     string // the quoted part of the section's heading; "" for none
	name    string // lower case
	value   string
}

// key is section and name, without what is between.
func (s setting) key() string { return s.section + "." + s.name }

// readSettings reads all settings that are in force, in the order in which
// later ones win. Files that the repository's own configuration includes don't
// count. tmp is an empty directory.
func (r *repository) readSettings(ctx context.Context, tmp string) error {
	var own []setting
	var err error
	if !r.isPlain() {
		if own, err = readOwnSettings(ctx, r.location, tmp); err != nil {
			return err
		}
	}
	if r.user, err = readUserSettings(ctx, r.gitDir, own, tmp); err != nil {
		return err
	}
	r.settings = append(slices.Clip(r.user), own...)
	r.format = "sha1"
	if s := r.ownSetting("extensions.objectformat"); s != "" {
		r.format = s
	}
	if s := r.ownSetting(refStorageSetting); s != "" && s != "files" && s != "reftable" {
		return api.Errorf(api.CodeInvalid, "%s stores its refs in an unknown way, %q", r.top, s).
			WithHint("git clone it and use the clone")
	}
	return nil
}

// readOwnSettings reads the configuration of a repository and, where it has
// one, of its worktree.
func readOwnSettings(ctx context.Context, at location, tmp string) ([]setting, error) {
	own, err := readConfig(ctx, at.commonDir, "config", tmp)
	if err != nil {
		return nil, err
	}
	more, err := readConfig(ctx, at.gitDir, "config.worktree", tmp)
	if err != nil || !isTrue(lastSetting(own, "extensions.worktreeconfig")) {
		return own, err
	}
	return append(own, more...), nil
}

// readConfig has git read one configuration file, which it is given as its
// input, and nothing else.
func readConfig(ctx context.Context, dir, name, tmp string) ([]setting, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open git directory: %w", err)
	}
	defer root.Close()
	data, err := readEssential(root, name, maxConfigFile)
	if err != nil || data == nil {
		return nil, err
	}
	g := git{dir: tmp}.with("GIT_DIR=" + tmp)
	out, err := g.filter(ctx, bytes.NewReader(data), "config", "--file", "-", "--no-includes", "--list", "-z")
	var failed *gitError
	if errors.As(err, &failed) {
		return nil, api.Errorf(api.CodeInvalid, "%s can't be read: %v", filepath.Join(dir, name), err).
			WithHint("see what git config --list says there")
	}
	if err != nil {
		return nil, err
	}
	return parseSettings(out), nil
}

// readUserSettings reads the system's and the user's configuration. On where
// the repository's git directory is, and on the URLs in its own settings, can
// depend what they include.
func readUserSettings(ctx context.Context, gitDir string, own []setting, tmp string) ([]setting, error) {
	if gitDir == "" {
		gitDir = tmp
	}
	// Given one file, git reads besides it only what tells that there is a
	// repository and in which format, without what its configuration includes.
	// The repository's HEAD and configuration were found to be files.
	g := git{dir: tmp}.with("GIT_DIR=" + gitDir)
	var settings []setting
	for _, file := range userConfigs() {
		source, before := []string{"--system"}, 0
		if file != systemConfig {
			var err error
			if before, err = includeWithRemotes(filepath.Join(tmp, "with-remotes"), own, file); err != nil {
				return nil, err
			}
			source = []string{"--file", filepath.Join(tmp, "with-remotes")}
		}
		out, err := g.output(ctx, slices.Concat([]string{"config"}, source, []string{"--includes", "--list", "-z"})...)
		var failed *gitError
		switch {
		case errors.As(err, &failed) && file == systemConfig:
			continue // mostly, there is none
		case errors.As(err, &failed):
			return nil, api.Errorf(api.CodeInvalid, "git can't read your configuration: %v", err).
				WithHint("see what git config --global --list says")
		case err != nil:
			return nil, err
		}
		found := parseSettings(out)
		settings = append(settings, found[min(before, len(found)):]...)
	}
	return settings, nil
}

// includeWithRemotes writes a configuration that includes another one, after
// the URLs of the remotes: git looks for what includeIf "hasconfig:remote…"
// names in the one file that it is given. It returns the number of settings
// that come before those of the other.
func includeWithRemotes(path string, own []setting, file string) (before int, err error) {
	var settings []setting
	for _, s := range own {
		if s.key() == "remote.url" {
			settings = append(settings, s)
		}
	}
	settings = append(settings, setting{section: "include", name: "path", value: file})
	if err := os.WriteFile(path, renderSettings(settings), 0o600); err != nil {
		return 0, fmt.Errorf("write a git configuration: %w", err)
	}
	return len(settings), nil
}

// systemConfig stands for the system's configuration, whose place git knows.
const systemConfig = ""

// userConfigs are the configurations that git reads in every repository, see
// FILES in git-config(1).
func userConfigs() []string {
	var sources []string
	if !isTrue(os.Getenv("GIT_CONFIG_NOSYSTEM")) {
		sources = append(sources, systemConfig)
	}
	var files []string
	if file, set := os.LookupEnv("GIT_CONFIG_GLOBAL"); set {
		files = []string{file}
	} else {
		if dir, err := os.UserConfigDir(); err == nil {
			files = append(files, filepath.Join(dir, "git/config"))
		}
		if home, err := os.UserHomeDir(); err == nil {
			files = append(files, filepath.Join(home, ".gitconfig"))
		}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if full, err := filepath.Abs(file); err == nil {
			sources = append(sources, full)
		}
	}
	return sources
}

// parseSettings reads what git config --list -z prints.
func parseSettings(out []byte) []setting {
	var settings []setting
	for _, entry := range fields(out) {
		key, value, hasValue := strings.Cut(entry, "\n")
		if !hasValue {
			value = "true" // a variable without "=" is true
		}
		first, last := strings.IndexByte(key, '.'), strings.LastIndexByte(key, '.')
		if first < 0 {
			continue
		}
		s := setting{section: key[:first], name: key[last+1:], value: value}
		if first < last {
			s.sub = key[first+1 : last]
		}
		settings = append(settings, s)
	}
	return settings
}

// ownSetting returns the value of a setting in the repository's own
// configuration; "" if it isn't there.
func (r *repository) ownSetting(key string) string {
	return lastSetting(r.settings[len(r.user):], key)
}

func lastSetting(settings []setting, key string) string {
	for _, s := range slices.Backward(settings) {
		if s.sub == "" && s.key() == key {
			return s.value
		}
	}
	return ""
}

// configFor says what a configuration is for.
type configFor int

const (
	configOfView  configFor = iota // git's work on the host with the repository
	configOfBuild                  // git's work on the host with the guest's copy
	configOfCopy                   // the guest
	configOfClean                  // the guest, with a clean checkout, which is never a sparse one
)

// config renders a configuration for what stands for the repository.
func (r *repository) config(purpose configFor) []byte {
	version := "0"
	var extensions []setting
	if r.format != "sha1" {
		version = "1"
		extensions = append(extensions, setting{section: "extensions", name: "objectformat", value: r.format})
	}
	// On the host, git is not to fetch what is missing.
	onHost := purpose == configOfView || purpose == configOfBuild
	partial := !onHost && r.isPartial()
	if partial {
		version = "1"
	}
	if s := r.ownSetting(refStorageSetting); s != "" && purpose == configOfView {
		version = "1"
		extensions = append(extensions, setting{section: "extensions", name: "refstorage", value: s})
	}
	settings := []setting{
		{section: "core", name: "repositoryformatversion", value: version},
		{section: "core", name: "bare", value: "false"},
	}
	settings = append(settings, extensions...)
	for _, s := range r.settings {
		key := s.key()
		allowed := s.sub == "" && slices.Contains(copiedSettings, key) ||
			s.sub != "" && slices.Contains(copiedSubSettings, key) ||
			partial && slices.Contains(partialSettings, key) ||
			purpose != configOfClean && slices.Contains(sparseSettings, key)
		// submodule.<name>.update can be a command, which the copy has no use for.
		if !allowed || key == "submodule.update" && strings.HasPrefix(s.value, "!") {
			continue
		}
		s.sub, s.value = withoutCredentials(s.sub), withoutCredentials(s.value)
		settings = append(settings, s)
	}
	if onHost {
		settings = append(settings, r.userSettings()...)
		return renderSettings(append(settings, r.patternsFor(purpose)...))
	}
	settings = append(settings, r.patternsFor(purpose)...)
	settings = append(settings,
		// The index knows the host's inodes, owners and change times. With
		// these two, git compares size and modification time only, which the
		// copy keeps, and doesn't have to read every file.
		setting{section: "core", name: "trustctime", value: "false"},
		setting{section: "core", name: "checkstat", value: "minimal"},
	)
	settings = append(settings, r.signingSettings()...)
	return renderSettings(settings)
}

// userSettings are those of the user's that tell how files are stored. git
// knows them on the host, unless they are included for this repository only.
func (r *repository) userSettings() []setting {
	var settings []setting
	for _, s := range r.user {
		switch key := s.key(); {
		case s.section == "filter", key == "core.excludesfile", key == "core.attributesfile":
			settings = append(settings, s)
		}
	}
	return settings
}

// renderSettings writes a configuration file in git's syntax.
func renderSettings(settings []setting) []byte {
	var b strings.Builder
	heading := ""
	for _, s := range settings {
		h := "[" + s.section + "]\n"
		if s.sub != "" {
			h = fmt.Sprintf("[%s \"%s\"]\n", s.section, subQuoter.Replace(s.sub))
		}
		if h != heading {
			heading = h
			b.WriteString(h)
		}
		fmt.Fprintf(&b, "\t%s = \"%s\"\n", s.name, valueQuoter.Replace(s.value))
	}
	return []byte(b.String())
}

var (
	subQuoter   = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	valueQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`)
)

// isTrue reads a boolean of git's configuration.
func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "true", "yes", "on":
		return true
	}
	n, err := strconv.ParseInt(value, 0, 64)
	return err == nil && n != 0
}
