package workspace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
)

// commandKeys are the configuration keys by which git, or a program that comes
// with it, can be told to run a command, to load a file that can, or to talk to
// a program that can: those of `git help --config`, and those that it leaves
// out. <x> stands for any name.
var commandKeys = []string{
	"add.interactive.useBuiltin", "alias.<x>", "browser.<x>.cmd", "browser.<x>.path",
	"completion.commands", "core.alternateRefsCommand", "core.askPass", "core.attributesFile", "core.editor",
	"core.excludesFile", "core.fsmonitor", "core.gitProxy", "core.hooksPath", "core.pager", "core.sshCommand",
	"credential.<x>.helper", "credential.helper",
	"diff.<x>.cachetextconv", "diff.<x>.command", "diff.<x>.textconv", "diff.external", "diff.guitool", "diff.orderFile", "diff.tool",
	"difftool.<x>.cmd", "difftool.<x>.path",
	"filter.<x>.clean", "filter.<x>.process", "filter.<x>.required", "filter.<x>.smudge",
	"gpg.<x>.program", "gpg.program", "gpg.ssh.defaultKeyCommand", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program",
	"guitool.<x>.cmd", "help.browser", "http.cookieFile", "http.proxy", "imap.tunnel",
	"include.path", "includeIf.gitdir:/**.path", "includeIf.onbranch:**.path",
	"init.templateDir", "instaweb.browser", "instaweb.httpd", "interactive.diffFilter",
	"lfs.customtransfer.<x>.path", "lfs.extension.<x>.clean", "lfs.extension.<x>.smudge",
	"man.<x>.cmd", "man.<x>.path", "man.viewer", "merge.<x>.driver", "merge.guitool", "merge.tool",
	"mergetool.<x>.cmd", "mergetool.<x>.path", "pager.<x>", "pager.ls-files", "pager.config", "pager.update-index",
	"remote.<x>.receivepack", "remote.<x>.uploadpack", "remote.<x>.vcs", "remote.<x>.proxy",
	"sendemail.aliasesFile", "sendemail.ccCmd", "sendemail.headerCmd", "sendemail.sendmailCmd", "sendemail.smtpServer", "sendemail.tocmd",
	"sequence.editor", "ssh.variant", "submodule.<x>.update", "tar.<x>.command",
	"trace2.eventTarget", "trace2.normalTarget", "trace2.perfTarget",
	"trailer.<x>.cmd", "trailer.<x>.command", "uploadpack.packObjectsHook", "url.<x>.insteadOf", "web.browser",
}

// canaries are programs that leave a file beside them when they run.
type canaries struct {
	t   *testing.T
	dir string
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func (c canaries) add(name string) (program string) {
	c.t.Helper()
	program = filepath.Join(c.dir, unfit.ReplaceAllString(name, "_"))
	if err := os.WriteFile(program, []byte("#!/bin/sh\n: >\"$0.ran\"\ncat\n"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return program
}

func (c canaries) ran() []string {
	c.t.Helper()
	ran, err := filepath.Glob(filepath.Join(c.dir, "*.ran"))
	if err != nil {
		c.t.Fatal(err)
	}
	return ran
}

func (c canaries) reset() {
	c.t.Helper()
	for _, file := range c.ran() {
		if err := os.Remove(file); err != nil {
			c.t.Fatal(err)
		}
	}
}

// arm has a configuration file name canaries, in all ways to write a command.
func (c canaries) arm(file, scope string) {
	c.t.Helper()
	var settings []setting
	for _, key := range commandKeys {
		program := c.add(scope + "-" + key)
		first, last := strings.IndexByte(key, '.'), strings.LastIndexByte(key, '.')
		s := setting{section: key[:first], name: key[last+1:], value: program}
		if first < last {
			s.sub = strings.ReplaceAll(key[first+1:last], "<x>", "evil")
		}
		s.name = strings.ReplaceAll(s.name, "<x>", "evil")
		switch key {
		case "alias.<x>", "credential.helper", "credential.<x>.helper", "submodule.<x>.update":
			s.value = "!" + s.value
		case "core.hooksPath":
			s.value = filepath.Join(c.dir, scope+"-hooks")
			c.hooks(s.value)
		case "filter.<x>.process":
			s.sub = "evilprocess" // with it, git wouldn't try clean
		case "filter.<x>.required", "diff.<x>.cachetextconv":
			s.value = "true"
		case "include.path", "includeIf.gitdir:/**.path", "includeIf.onbranch:**.path", "core.attributesFile", "core.excludesFile", "init.templateDir":
			continue // see armIncluded; others name no program themselves
		case "gpg.ssh.defaultKeyCommand":
			s = setting{section: "gpg", sub: "ssh", name: "defaultKeyCommand", value: program}
		}
		settings = append(settings, s)
	}
	settings = append(settings,
		// A partial clone whose remote is a program.
		setting{section: "extensions", name: "partialClone", value: "evil"},
		setting{section: "remote", sub: "evil", name: "promisor", value: "true"},
		setting{section: "remote", sub: "evil", name: "url", value: "ext::" + c.add(scope+"-ext")},
		setting{section: "protocol", name: "allow", value: "always"},
		setting{section: "protocol", sub: "ext", name: "allow", value: "always"},
		setting{section: "log", name: "showSignature", value: "true"},
		setting{section: "fetch", name: "recurseSubmodules", value: "true"},
	)
	included := filepath.Join(c.dir, scope+"-included")
	c.append(included, renderSettings([]setting{
		{section: "filter", sub: "evil", name: "clean", value: c.add(scope + "-included-clean")},
		{section: "core", name: "fsmonitor", value: c.add(scope + "-included-fsmonitor")},
	}))
	settings = append(settings,
		setting{section: "include", name: "path", value: included},
		setting{section: "includeIf", sub: "gitdir:/**", name: "path", value: included},
		setting{section: "includeIf", sub: "onbranch:**", name: "path", value: included})
	c.append(file, renderSettings(settings))
}

func (c canaries) append(file string, data []byte) {
	c.t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		c.t.Fatal(err)
	}
}

// hooks fills a directory with every hook that githooks(5) knows.
func (c canaries) hooks(dir string) {
	c.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{
		"applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit", "prepare-commit-msg", "commit-msg",
		"post-commit", "pre-rebase", "post-checkout", "post-merge", "pre-push", "pre-receive", "update", "proc-receive", "post-receive",
		"post-update", "reference-transaction", "push-to-checkout", "pre-auto-gc", "post-rewrite", "sendemail-validate",
		"fsmonitor-watchman", "post-index-change",
	} {
		program := c.add(filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir) + "-hook-" + name)
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			c.t.Fatal(err)
		}
	}
}

// attributes has every file go through what is configured under the name evil.
const attributes = "* filter=evil diff=evil merge=evil\n*.process filter=evilprocess\n"

// tempting makes files of a repository such that git has to read them to tell
// whether they were changed.
func tempting(t testing.TB, repo string) {
	t.Helper()
	second := time.Now().Add(-time.Hour).Truncate(time.Second)
	age := func(name string) {
		t.Helper()
		if err := os.Chtimes(name, second, second); err != nil {
			t.Fatal(err)
		}
	}
	write(t, repo, "first", "first\n")
	commit(t, repo, "first")
	write(t, repo, ".gitattributes", attributes)
	names := []string{"tempting", "tempting.process"}
	for _, name := range names {
		write(t, repo, name, "before")
		age(filepath.Join(repo, name))
	}
	commit(t, repo, "tempting")
	for _, name := range names {
		write(t, repo, name, "after!")
		age(filepath.Join(repo, name))
	}
	gitDir := strings.TrimSpace(run(t, repo, "rev-parse", "--absolute-git-dir"))
	age(filepath.Join(gitDir, "index"))
	write(t, gitDir, "info/attributes", attributes)
}

// hostileRepositories makes a repository with every kind of others in it, all
// armed. The second is a linked worktree of the first.
func hostileRepositories(t *testing.T, c canaries) (top, linked string) {
	t.Helper()
	top = newRepo(t)
	origin := newRepo(t)
	run(t, top, "submodule", "--quiet", "add", origin, "sub")
	commit(t, top, "a submodule")
	run(t, top, "config", "extensions.worktreeConfig", "true")
	linked = filepath.Join(t.TempDir(), "linked")
	run(t, top, "worktree", "add", "-q", linked)
	run(t, top, "worktree", "add", "-q", "inner-linked")
	run(t, top, "init", "-q", "nested")
	run(t, filepath.Join(top, "nested"), "config", "extensions.worktreeConfig", "true")
	for _, dir := range []string{"sub", "nested", "inner-linked", "."} {
		if dir == "nested" {
			write(t, top, "nested/file", "file\n")
		}
		tempting(t, filepath.Join(top, dir))
	}
	tempting(t, linked)
	if err := os.Rename(filepath.Join(top, ".git/hooks"), filepath.Join(top, ".git/hooks.sample")); err != nil {
		t.Fatal(err)
	}
	for scope, file := range map[string]string{
		"top":             ".git/config",
		"top-worktree":    ".git/config.worktree",
		"sub":             ".git/modules/sub/config",
		"nested":          "nested/.git/config",
		"nested-worktree": "nested/.git/config.worktree",
		"inner-linked":    ".git/worktrees/inner-linked/config.worktree",
		"linked":          ".git/worktrees/linked/config.worktree",
	} {
		c.arm(filepath.Join(top, file), scope)
		c.hooks(filepath.Join(filepath.Dir(filepath.Join(top, file)), "hooks"))
	}
	return top, linked
}

// A repository's own configuration is a stranger's: nothing that it names runs,
// whichever kind of repository it is and however it is copied.
func TestNothingThatARepositoryNamesRuns(t *testing.T) {
	t.Parallel()
	c := canaries{t, t.TempDir()}
	top, linked := hostileRepositories(t, c)
	dirs := []string{top, linked, filepath.Join(top, "sub"), filepath.Join(top, "nested"), filepath.Join(top, "inner-linked")}
	twins := make(map[string]string) // commits like HEAD, to which all can be taken
	for _, dir := range dirs {
		twins[dir] = strings.TrimSpace(run(t, dir, "commit-tree", "-p", "HEAD", "-m", "twin", "HEAD^{tree}"))
	}
	c.reset()
	for _, dir := range dirs {
		push(t, api.Workspace{Path: dir})
		push(t, api.Workspace{Path: dir, Branch: "new", From: "HEAD~1", LeaveChanges: true})
		push(t, api.Workspace{Path: dir, Branch: "new", From: twins[dir]})
		if _, err := tryPush(t, api.Workspace{Path: dir, Branch: "new", From: "HEAD~1"}); err != nil && !errors.Is(err, api.ErrConflict) {
			t.Error(err)
		}
	}
	if ran := c.ran(); len(ran) > 0 {
		t.Errorf("ran: %q", ran)
	}
	// The test means something only if git itself runs what was armed.
	for _, dir := range dirs {
		_, _ = tryRun(dir, "status")
		if len(c.ran()) == 0 {
			t.Errorf("git status runs nothing in %s", dir)
		}
		c.reset()
	}
	// Every key that this git documents, so that one that a later git brings is
	// tried too. With them git itself refuses to work.
	every := c.everyKey()
	for _, file := range []string{".git/config", ".git/modules/sub/config", "nested/.git/config", "nested/.git/config.worktree", ".git/worktrees/inner-linked/config.worktree"} {
		c.append(filepath.Join(top, file), every)
	}
	push(t, api.Workspace{Path: top})
	push(t, api.Workspace{Path: top, Branch: "new", From: "HEAD~1", LeaveChanges: true})
	push(t, api.Workspace{Path: top, Branch: "new", From: twins[top]})
	if ran := c.ran(); len(ran) > 0 {
		t.Errorf("with every key, ran: %q", ran)
	}
}

// everyKey renders a configuration in which every key that git documents names
// a canary.
func (c canaries) everyKey() []byte {
	c.t.Helper()
	out, err := exec.Command("git", "help", "--config").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	program := c.add("every-key")
	placeholder := regexp.MustCompile(`<[^>]*>|\*`)
	var settings []setting
	for key := range strings.FieldsSeq(string(out)) {
		first, last := strings.IndexByte(key, '.'), strings.LastIndexByte(key, '.')
		if first < 0 || strings.HasPrefix(key, "extensions.") || strings.ContainsAny(key[last:], "'_") {
			continue
		}
		s := setting{section: strings.ToLower(key[:first]), name: strings.ToLower(placeholder.ReplaceAllString(key[last+1:], "evil")), value: program}
		if first < last {
			s.sub = placeholder.ReplaceAllString(key[first+1:last], "evil")
		}
		switch whole := s.key(); {
		case slices.Contains(copiedSettings, whole), slices.Contains(sparseSettings, whole), slices.Contains(copiedSubSettings, whole) && s.sub != "":
			continue // these are copied: git's refusal of a bad value is no wonder
		case whole == "core.bare", whole == "core.worktree", whole == "core.repositoryformatversion":
			continue // what a repository is
		}
		settings = append(settings, s)
	}
	if len(settings) < 500 {
		c.t.Fatalf("git names %d keys only", len(settings))
	}
	return renderSettings(settings)
}

// TestTheUsersFiltersRun: only with them can git tell whether a file that was
// written in the second of the index's making is changed.
func TestTheUsersFiltersRun(t *testing.T) {
	for name, keys := range map[string][]string{
		"clean":   {"filter.user.clean", "tr a-z A-Z", "filter.user.smudge", "tr A-Z a-z"},
		"process": {"filter.user.process", filterProcess(t)},
	} {
		t.Run(name, func(t *testing.T) {
			config := userConfig
			for i := 0; i < len(keys); i += 2 {
				config += fmt.Sprintf("[filter \"user\"]\n\t%s = %q\n", keys[i][len("filter.user."):], keys[i+1])
			}
			home := t.TempDir()
			write(t, home, ".gitconfig", config)
			t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
			repo := newRepo(t)
			run(t, repo, "init", "-q", "nested")
			for _, dir := range []string{filepath.Join(repo, "nested"), repo} {
				write(t, dir, ".gitattributes", "*.up filter=user\n")
				second := time.Now().Add(-time.Hour).Truncate(time.Second)
				for _, file := range []string{"same.up", "changed.up"} {
					write(t, dir, file, "lower\n")
					mustAge(t, filepath.Join(dir, file), second)
				}
				commit(t, dir, "filtered")
				if got := run(t, dir, "show", "HEAD:same.up"); got != "LOWER\n" {
					t.Fatalf("the filter makes %q", got)
				}
				write(t, dir, "changed.up", "other\n")
				mustAge(t, filepath.Join(dir, "changed.up"), second)
				mustAge(t, filepath.Join(dir, ".git/index"), second)
			}
			guest := push(t, api.Workspace{Path: repo})
			// The guest, which has no such filter, doesn't read what is known to
			// be unchanged.
			t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			for _, dir := range []string{guest, filepath.Join(guest, "nested")} {
				if got, want := run(t, dir, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules"), " M changed.up\n"; got != want {
					t.Errorf("git status in the guest: %q, want %q", got, want)
				}
			}
		})
	}
}

func mustAge(t testing.TB, file string, to time.Time) {
	t.Helper()
	if err := os.Chtimes(file, to, to); err != nil {
		t.Fatal(err)
	}
}
