// Package workspace copies a git repository of the host into a guest: the
// working tree as it is, and the history, so that git works there. The guest
// needs no git for that, only something that unpacks a tar stream.
//
// # What is copied
//
//   - Tracked files with their changes, and untracked files that are not
//     ignored: names, contents, permission bits, symbolic links and times.
//     Directories without such files don't exist for git and are left out.
//     Holes of sparse files stay holes, and hard links links.
//   - All refs and the objects they reach, HEAD, the index with what is
//     staged or in conflict, stashes, and the state of an unfinished merge,
//     rebase, cherry-pick or bisect.
//   - Each submodule that is checked out, and each untracked repository inside
//     the working tree, in the same way and as a repository of its own.
//   - Of the configuration, the user's and the repository's own without what
//     that includes: remotes (without credentials), branches, the user's name
//     and address, and what tells how files are stored. See config.go for the
//     list.
//
// Hooks, other reflogs than that of the stash, unreachable objects, Git LFS's
// store, credentials and every other setting stay on the host. To find out
// what is reachable takes long in a big history: from about 100,000 objects on
// (see reuse.go), packs are copied with all they hold, unless something tells
// that this includes what was dropped.
//
// # What isn't trusted
//
// The user's repository is only read, and what is in it may be a stranger's.
// git never reads its configuration, and so runs nothing that it names: git
// works with a view of the repository (view.go). The only programs that run are
// clean filters of the user's own configuration (such as Git LFS), for a file
// whose state can't be told by its time, as in any git status.
//
// What a repository leads to outside of it, by a .git file, symbolic links or
// alternates, counts only if it points back or the user has declared it safe
// (trust.go). A named pipe, socket or device where a file should be is an error
// and keeps nobody waiting (inside.go, obstacle.go).
//
// A directory that is no repository is copied too, without what a .gitignore in
// it names, and gets none in the guest. So is one below the top of a repository,
// if that itself isn't meant (InspectCopy), without what the repository ignores.
//
// # Branches
//
// With a branch that starts at HEAD, the guest is on that branch and all else
// is as without. With one that starts at another commit, uncommitted work goes
// along as with git switch, and is refused where that commit has something else
// than HEAD (carry.go). If changes are to be left, the guest gets a clean
// checkout, like git worktree add makes it.
//
// Contents of a clean checkout, and of what another commit changes, are those of
// the objects: filters (such as Git LFS) and conversions of line ends or
// encodings are not applied. A submodule is there at the recorded commit if the
// host has it, else its directory is empty.
package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// What people are told of directories that aren't repositories with a history.
const (
	plainNote  = "it is not a git repository: its files were copied, but for those that a .gitignore in it names"
	unbornNote = "the repository has no commit yet: its files and what is staged were copied"
	insideNote = "its files were copied, but for those that the repository around it ignores, and no history"
)

// Plan is a checked request to copy a repository.
type Plan struct {
	info   api.WorkspaceInfo
	branch string // new branch in the guest, without refs/heads/; "" for none
	start  string // commit where it starts; "" for HEAD
	clean  bool   // nothing uncommitted is copied
	exact  bool   // info.HostPath alone is copied, though it may be in a repository
	big    int64  // see bigHistory; tests lower it
}

// Inspect checks everything about w that can be known before there is a VM.
// A path inside a repository means the whole repository, and one outside of any
// a directory of files. Errors are *api.Error with a hint.
func Inspect(ctx context.Context, w api.Workspace) (*Plan, error) {
	if err := checkDirectory(w.Path); err != nil {
		return nil, err
	}
	tmp, remove, err := makeTemp()
	if err != nil {
		return nil, err
	}
	defer remove()
	repo, err := openRepository(ctx, w.Path, tmp)
	if err != nil {
		return nil, err
	}
	head, err := repo.commit(ctx, "HEAD")
	if err != nil {
		return nil, err
	}
	p := &Plan{branch: w.Branch, clean: w.LeaveChanges, big: bigHistory}
	if p.start, err = checkBranch(ctx, repo, w); err != nil {
		return nil, err
	}
	carried, err := p.checkCarry(ctx, repo, w.From, tmp)
	if err != nil {
		return nil, err
	}
	guestPath, err := guestPath(w.GuestPath, defaultGuestPath)
	if err != nil {
		return nil, err
	}
	p.info = api.WorkspaceInfo{HostPath: repo.top, GuestPath: guestPath}
	switch {
	case repo.isPlain():
		repo.notes = append(repo.notes, plainNote)
	case carried > 0:
		repo.notes = append(repo.notes, fmt.Sprintf("its uncommitted work (%s) was taken to %s", plural(carried, "path"), w.From))
	case head == "" && !p.clean:
		repo.notes = append(repo.notes, unbornNote)
	}
	p.info.Note = strings.Join(repo.notes, "; ")
	return p, nil
}

// Info tells what is copied and where it goes.
func (p *Plan) Info() api.WorkspaceInfo { return p.info }

func checkDirectory(dir string) error {
	if !filepath.IsAbs(dir) {
		return api.Errorf(api.CodeInvalid, "the workspace path %q is not absolute", dir).
			WithHint("give the full path of the repository")
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.CodeNotFound, "there is no directory %s", dir).
			WithHint("check the path of the repository")
	case err != nil:
		return api.Errorf(api.CodeInvalid, "can't look at the workspace: %v", err).
			WithHint("check the path and its permissions")
	case !info.IsDir():
		return api.Errorf(api.CodeInvalid, "%s is not a directory", dir).
			WithHint("name a directory, such as that of a git repository")
	}
	return nil
}

// checkCarry checks that what isn't committed can be taken along, and returns how
// many paths that are; 0 if they stay where they are.
func (p *Plan) checkCarry(ctx context.Context, r *repository, from, tmp string) (int, error) {
	if p.start == "" || p.clean {
		return 0, nil
	}
	c, err := planCarry(ctx, r, p.start)
	if err != nil {
		return 0, err
	}
	return len(c.work), c.check(ctx, r, from, tmp)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
