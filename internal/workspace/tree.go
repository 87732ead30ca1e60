package workspace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
)

// tree is the content of a commit.
type tree struct {
	repo    *repository
	prefix  string
	commit  string
	entries []treeEntry
}

// treeEntry is a line of git ls-tree.
type treeEntry struct {
	mode string // as in treeModes
	id   string
	size int64 // bytes; 0 for submodules
	path string
}

// The modes of tree entries, see git-fast-import(1).
const (
	modeExecutable = "100755"
	modeSymlink    = "120000"
	modeSubmodule  = "160000"
)

// listTree lists the files of a commit.
func listTree(ctx context.Context, r *repository, prefix, commit string) (*tree, error) {
	out, err := r.git.output(ctx, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
	var failed *gitError
	if errors.As(err, &failed) && r.isPartial() {
		return nil, r.lacksContent(commit, "of files") // the error is that of one object
	}
	if err != nil {
		return nil, err
	}
	t := &tree{repo: r, prefix: prefix, commit: commit}
	for _, line := range fields(out) {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta) // mode, type, id, size
		if !ok || len(f) != 4 || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("git ls-tree: unexpected line %q", line)
		}
		size, _ := strconv.ParseInt(f[3], 10, 64) // "-" for submodules
		t.entries = append(t.entries, treeEntry{mode: f[0], id: f[2], size: size, path: name})
	}
	return t, nil
}

func (t *tree) size() (files int, bytes int64) {
	for _, e := range t.entries {
		bytes += e.size
	}
	return len(t.entries), bytes
}

// write sends the files, whose contents come from one run of git cat-file.
func (t *tree) write(ctx context.Context, a *archive) error {
	var ids strings.Builder
	for _, e := range t.entries {
		if e.mode != modeSubmodule {
			ids.WriteString(e.id + "\n")
		}
	}
	p := t.repo.git.process(ctx, "cat-file", "--batch", "--buffer")
	p.Stdin = strings.NewReader(ids.String())
	stdout, err := p.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	if err := p.Start(); err != nil {
		return p.explain(err)
	}
	objects := bufio.NewReaderSize(stdout, bufferSize)
	now := time.Now()
	for _, e := range t.entries {
		if err = t.add(a, e, objects, now); err != nil {
			break
		}
		a.meter.file()
	}
	if err != nil {
		_ = p.Process.Kill() // nobody reads its output any more
		_ = p.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return p.explain(p.Wait())
}

func (t *tree) add(a *archive, e treeEntry, objects *bufio.Reader, mtime time.Time) error {
	name := path.Join(t.prefix, e.path)
	if err := a.parents(name, mtime); err != nil {
		return err
	}
	if e.mode == modeSubmodule {
		return a.directory(name, 0o755, mtime)
	}
	size, err := t.objectHeader(e, objects)
	if err != nil {
		return err
	}
	if e.mode == modeSymlink {
		target := make([]byte, size)
		if _, err := io.ReadFull(objects, target); err != nil {
			return fmt.Errorf("read object %s: %w", e.id, err)
		}
		a.meter.add(size)
		err = a.symlink(name, string(target), mtime)
	} else {
		perm := fs.FileMode(0o644)
		if e.mode == modeExecutable {
			perm = 0o755
		}
		err = a.stream(name, perm, mtime, objects, size)
	}
	if err != nil {
		return err
	}
	if _, err := objects.ReadByte(); err != nil { // the newline after the content
		return fmt.Errorf("read object %s: %w", e.id, err)
	}
	return nil
}

// objectHeader reads "id type size" and returns the size.
func (t *tree) objectHeader(e treeEntry, objects *bufio.Reader) (int64, error) {
	line, err := objects.ReadString('\n')
	if errors.Is(err, io.EOF) || strings.HasSuffix(line, " missing\n") {
		return 0, t.repo.lacksContent(t.commit, "of "+e.path)
	}
	if err != nil {
		return 0, fmt.Errorf("read object %s: %w", e.id, err)
	}
	_, digits, _ := strings.Cut(strings.TrimSpace(line), " blob ")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("git cat-file: unexpected line %q", line)
	}
	return size, nil
}

// lacksContent is the error for what a partial clone hasn't fetched yet.
func (r *repository) lacksContent(commit, what string) error {
	return api.Errorf(api.CodeConflict, "%s lacks the content %s at commit %.12s", r.top, what, commit).
		WithHint("check the commit out once on the host, which fetches it: git -C %s switch --detach %.12s", r.top, commit)
}
