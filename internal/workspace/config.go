package workspace

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

// setting is one value of git's configuration, see git-config(1).
type setting struct {
	section string // lower case
	sub     string // the quoted part of the section's heading; "" for none
	name    string // lower case
	value   string
}

// key is section and name, without what is between.
func (s setting) key() string { return s.section + "." + s.name }

// readSettings reads all settings that are in force in a repository, also the
// user's and the system's, in the order in which later ones win.
func readSettings(ctx context.Context, g git) ([]setting, error) {
	out, err := g.output(ctx, "config", "--list", "-z")
	if err != nil {
		return nil, err
	}
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
	return settings, nil
}

// guestConfig renders the configuration of the copy. clean says that it is a
// clean checkout, which is never a sparse one.
func (r *repository) guestConfig(clean bool) []byte {
	version := "0"
	var extensions []setting
	if r.format != "sha1" {
		version = "1"
		extensions = append(extensions, setting{section: "extensions", name: "objectformat", value: r.format})
	}
	partial := r.isPartial()
	if partial {
		version = "1"
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
			!clean && slices.Contains(sparseSettings, key)
		// submodule.<name>.update can be a command, which the copy has no use for.
		if !allowed || key == "submodule.update" && strings.HasPrefix(s.value, "!") {
			continue
		}
		s.sub, s.value = withoutCredentials(s.sub), withoutCredentials(s.value)
		settings = append(settings, s)
	}
	settings = append(settings,
		// The index knows the host's inodes, owners and change times. With
		// these two, git compares size and modification time only, which the
		// copy keeps, and needs not read every file.
		setting{section: "core", name: "trustctime", value: "false"},
		setting{section: "core", name: "checkstat", value: "minimal"},
	)
	return renderSettings(settings)
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
	case "true", "yes", "on", "1":
		return true
	}
	return false
}
