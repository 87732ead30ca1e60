package workspace

import (
	"context"
	"errors"
	"strings"

	"banger/internal/api"
)

const headsPrefix = "refs/heads/"

// checkBranch checks a new branch and where it starts. It returns that commit, or
// "" if that is HEAD and the working tree is to be copied as it is.
func checkBranch(ctx context.Context, r *repository, w api.Workspace) (start string, err error) {
	branch, from := w.Branch, w.From
	if branch == "" {
		if from != "" {
			return "", api.Errorf(api.CodeInvalid, "--from %s needs a name for the new branch", from).
				WithHint("add --branch NAME")
		}
		if w.LeaveChanges {
			return "", api.Errorf(api.CodeInvalid, "--leave-changes needs a name for the new branch").
				WithHint("add --branch NAME")
		}
		return "", nil
	}
	if r.isPlain() {
		return "", api.Errorf(api.CodeInvalid, "%s is not a git repository, and so has no branches", r.top).
			WithHint("leave --branch out, or run `git init` there")
	}
	if err := checkBranchName(ctx, r, branch); err != nil {
		return "", err
	}
	if err := checkBranchIsNew(ctx, r, branch); err != nil {
		return "", err
	}
	if from == "" {
		from = "HEAD"
	}
	if (from == "HEAD" || from == "@") && !w.LeaveChanges {
		return "", nil
	}
	if strings.Contains(from, "@{") {
		if err := r.copyReflogs(); err != nil {
			return "", err
		}
	}
	start, err = r.commit(ctx, from)
	if err != nil {
		return "", err
	}
	head, err := r.commit(ctx, "HEAD")
	if err != nil {
		return "", err
	}
	switch {
	case start != "" && start == head && !w.LeaveChanges:
		return "", nil
	case start == "":
		return "", api.Errorf(api.CodeNotFound, "%q is no commit in %s", from, r.top).
			WithHint("see `git branch --all` and `git log`; a remote's new commits need `git fetch` first")
	}
	return start, nil
}

func checkBranchName(ctx context.Context, r *repository, branch string) error {
	_, err := r.git.output(ctx, "check-ref-format", headsPrefix+branch)
	var refused *gitError
	switch {
	case errors.As(err, &refused), strings.HasPrefix(branch, "-"), branch == "HEAD":
		return api.Errorf(api.CodeInvalid, "%q is no valid name for a branch", branch).
			WithHint("use letters, digits, - and /, for instance fix/login")
	}
	return err
}

// checkBranchIsNew also refuses names that can't exist beside another: a and
// a/b.
func checkBranchIsNew(ctx context.Context, r *repository, branch string) error {
	out, err := r.git.output(ctx, "for-each-ref", "--format=%(refname)", headsPrefix)
	if err != nil {
		return err
	}
	for ref := range strings.Lines(string(out)) {
		other := strings.TrimPrefix(strings.TrimSuffix(ref, "\n"), headsPrefix)
		switch {
		case other == branch:
			return api.Errorf(api.CodeExists, "the branch %s exists already in %s", branch, r.top).
				WithHint("choose another name for --branch")
		case strings.HasPrefix(other, branch+"/"), strings.HasPrefix(branch, other+"/"):
			return api.Errorf(api.CodeExists, "a branch %s can't exist beside %s in %s", branch, other, r.top).
				WithHint("choose another name for --branch")
		}
	}
	return nil
}
