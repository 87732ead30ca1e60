package workspace

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// InspectCopy is Inspect for a further directory. One below the top of a
// repository is copied for itself, as what it is in that repository's eyes: all
// of it if it is ignored there, else what isn't.
func InspectCopy(ctx context.Context, c api.Copy) (*Plan, error) {
	if err := checkDirectory(c.Path); err != nil {
		return nil, err
	}
	tmp, remove, err := makeTemp()
	if err != nil {
		return nil, err
	}
	defer remove()
	p := &Plan{exact: true, big: bigHistory}
	repo, below, err := p.open(ctx, c.Path, tmp)
	if err != nil {
		return nil, err
	}
	head, err := repo.commit(ctx, "HEAD")
	if err != nil {
		return nil, err
	}
	place, err := guestPath(c.GuestPath, path.Join("/root", path.Base(c.Path)))
	if err != nil {
		return nil, err
	}
	switch {
	case repo.isPlain():
		repo.notes = append(repo.notes, plainNote)
	case below != "":
		repo.notes = append(repo.notes, insideNote)
	case head == "":
		repo.notes = append(repo.notes, unbornNote)
	}
	p.info = api.WorkspaceInfo{
		HostPath: filepath.Join(repo.top, below), GuestPath: place, ReadOnly: c.ReadOnly,
		Note: strings.Join(repo.notes, "; "),
	}
	return p, nil
}

// open opens the repository of the plan. below is the directory in it that alone
// is copied; "" for all of it.
func (p *Plan) open(ctx context.Context, dir, tmp string) (repo *repository, below string, err error) {
	repo, err = openRepository(ctx, dir, tmp)
	if err != nil || !p.exact || repo.isPlain() {
		return repo, "", err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		below, err = filepath.Rel(repo.top, real)
	}
	if err != nil {
		return nil, "", fmt.Errorf("resolve %s: %w", dir, err)
	}
	if below == "." {
		return repo, "", nil
	}
	_, err = repo.inWorktree(ctx, repo.git, "check-ignore", "--quiet", "--", "./"+below)
	if exitedWith(err, 1) {
		return repo, below, nil
	}
	if err != nil {
		return nil, "", err
	}
	at, err := locatePlain(real)
	if err != nil {
		return nil, "", err
	}
	repo, err = openLocation(ctx, at, tmp)
	return repo, "", err
}
