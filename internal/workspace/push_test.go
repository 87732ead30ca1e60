package workspace

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"banger/internal/api"
	"banger/internal/guard"
)

func TestPushCopiesTheWorkingTree(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, ".gitignore", "*.log\nbuild/\n")
	names := []string{"empty", "with space", "new\nline", "quote\"'", "latin-\xe9", "-dash", "ünï/cödé", strings.Repeat("long/", 60) + "name"}
	for _, name := range names {
		write(t, repo, name, name)
	}
	write(t, repo, "empty", "")
	write(t, repo, "big", strings.Repeat("0123456789abcdef", smallFile/16)+"x")
	write(t, repo, "exact", strings.Repeat("x", smallFile))
	write(t, repo, "run.sh", "#!/bin/sh\n")
	write(t, repo, "renamed-from", "this is renamed in the index\n")
	write(t, repo, "deleted", "deleted\n")
	write(t, repo, "becomes-dir", "x\n")
	write(t, repo, "becomes-link/file", "x\n")
	if err := errors.Join(
		os.Chmod(filepath.Join(repo, "run.sh"), 0o755),
		os.Symlink("dir", filepath.Join(repo, "link-to-dir")),
		os.Symlink("/no/such\nfile\xff", filepath.Join(repo, "dangling")),
	); err != nil {
		t.Fatal(err)
	}
	commit(t, repo, "all kinds")

	run(t, repo, "mv", "renamed-from", "renamed-to")
	write(t, repo, "staged", "staged\n")
	run(t, repo, "add", "staged")
	write(t, repo, "staged", "staged, then changed\n")
	write(t, repo, "intended", "intent to add\n")
	run(t, repo, "add", "-N", "intended")
	write(t, repo, "dir/b.txt", "changed\n")
	write(t, repo, "untracked", "untracked\n")
	write(t, repo, "deep/untracked/file", "untracked\n")
	write(t, repo, "x.log", "ignored\n")
	write(t, repo, "build/out", "ignored\n")
	for _, name := range []string{"deleted", "becomes-dir", "becomes-link"} {
		if err := os.RemoveAll(filepath.Join(repo, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, repo, "becomes-dir/file", "x\n")
	elsewhere := t.TempDir()
	write(t, elsewhere, "file", "not of this repository\n")
	if err := errors.Join(
		os.Symlink(elsewhere, filepath.Join(repo, "becomes-link")),
		os.Mkdir(filepath.Join(repo, "empty-dir"), 0o755),
	); err != nil {
		t.Fatal(err)
	}

	guest := push(t, api.Workspace{Path: repo})
	checkSame(t, repo, guest)
	for _, name := range append(names, "big", "exact", "untracked", "deep/untracked/file", "staged") {
		if read(t, guest, name) != read(t, repo, name) {
			t.Errorf("%q differs", name)
		}
	}
	for _, name := range []string{"deleted", "x.log", "build", "empty-dir"} {
		if exists(filepath.Join(guest, name)) {
			t.Errorf("%s was copied", name)
		}
	}
	for _, name := range []string{"link-to-dir", "dangling", "becomes-link"} {
		want, err := os.Readlink(filepath.Join(repo, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(filepath.Join(guest, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v", name, got, err)
		}
	}
	info, err := os.Stat(filepath.Join(guest, "run.sh"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v, %v", info.Mode(), err)
	}
}

func TestPushDoesNotTouchTheRepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	// Same content, new time: status would like to refresh the index.
	write(t, repo, "a.txt", "one\nmore\n")
	before := snapshot(t, repo)
	push(t, api.Workspace{Path: repo, Branch: "new", From: "HEAD~1"})
	push(t, api.Workspace{Path: repo, Branch: "new"})
	after := snapshot(t, repo)
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s: %s, was %s", name, after[name], was)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
}

// snapshot describes every file below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = info.Mode().String() + " " + info.ModTime().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPushReportsProgress(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var events []api.Progress
	err = plan.Push(t.Context(), func(_ context.Context, _ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}, func(p api.Progress) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	last := events[len(events)-1]
	if !last.Finished || last.Phase != "workspace" || last.Unit != "bytes" || last.Done == 0 || last.Done != last.Total {
		t.Errorf("last event: %+v", last)
	}
	for i, e := range events {
		if e.Total < e.Done || i > 0 && e.Done < events[i-1].Done || e.Finished != (i == len(events)-1) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestPushEndsWithTheGuestsError(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "big", strings.Repeat("x", 4*bufferSize))
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	err = plan.Push(t.Context(), func(_ context.Context, _ string, r io.Reader) error {
		_, _ = r.Read(make([]byte, 10))
		return full
	}, nil)
	if !errors.Is(err, full) || err.Error() != "unpack the workspace in the guest: disk full" {
		t.Errorf("got %v", err)
	}
}

// A panic on either end of the transfer must not leave the other one waiting.
func TestPushEndsWithAPanic(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "big", strings.Repeat("x", 4*bufferSize))
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	err = plan.Push(t.Context(), func(_ context.Context, _ string, r io.Reader) error {
		_, _ = r.Read(make([]byte, 10))
		panic("a bug")
	}, nil)
	var e *guard.PanicError
	if !errors.As(err, &e) {
		t.Errorf("sending: got %v", err)
	}
	err = plan.Push(t.Context(), func(_ context.Context, _ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}, func(p api.Progress) {
		if !p.Finished && strings.Contains(p.Detail, "files") { // while they are read
			panic("a bug")
		}
	})
	if !errors.As(err, &e) {
		t.Errorf("reading: got %v", err)
	}
}

func TestPushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	write(t, repo, "big", strings.Repeat("x", 4*bufferSize))
	plan, err := Inspect(t.Context(), api.Workspace{Path: repo})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	err = plan.Push(ctx, func(ctx context.Context, _ string, r io.Reader) error {
		_, _ = r.Read(make([]byte, 10))
		cancel(reason)
		<-ctx.Done()
		return context.Cause(ctx)
	}, nil)
	if !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

func TestPushFailsOnADamagedRepository(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	id := strings.TrimSpace(run(t, repo, "rev-parse", "HEAD~1:a.txt"))
	if err := os.Remove(filepath.Join(repo, ".git/objects", id[:2], id[2:])); err != nil {
		t.Fatal(err)
	}
	_, err := tryPush(t, api.Workspace{Path: repo})
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v", err)
	}
}

func TestPushLeavesNothingBehind(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	push(t, api.Workspace{Path: newRepo(t)})
	entries, err := filepath.Glob(filepath.Join(tmp, "banger-*"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A working tree's files can be removed and written to at any time.
func TestPushWhileFilesChange(t *testing.T) {
	t.Parallel()
	repo := newRepo(t)
	for i := range 50 {
		write(t, repo, filepath.Join("many", string(rune('a'+i%26)), "f"+strings.Repeat("x", i)), "content")
	}
	big := filepath.Join(repo, "zzz-big")
	write(t, repo, "zzz-big", strings.Repeat("x", 8<<20))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Truncate(big, int64(6<<20+i%2<<21))
			_ = os.RemoveAll(filepath.Join(repo, "many", string(rune('a'+i%26))))
		}
	}()
	guest, err := tryPush(t, api.Workspace{Path: repo})
	close(stop)
	<-stopped
	// It may give up on the big file, but never breaks the stream.
	if err != nil && !strings.Contains(err.Error(), "keeps getting shorter") {
		t.Fatal(err)
	}
	if err == nil {
		run(t, guest, "status")
	}
}
