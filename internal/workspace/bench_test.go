package workspace

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
)

// BenchmarkPush copies 10,000 files in 40 commits, or the repository that
// BANGER_BENCH_REPO names.
func BenchmarkPush(b *testing.B) {
	repo := os.Getenv("BANGER_BENCH_REPO")
	if repo == "" {
		repo = manyFiles(b)
	}
	for b.Loop() {
		plan, err := Inspect(b.Context(), api.Workspace{Path: repo})
		if err != nil {
			b.Fatal(err)
		}
		err = plan.Push(b.Context(), func(_ context.Context, _ string, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			b.ReportMetric(float64(n)/1e6, "MB")
			return err
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func manyFiles(b *testing.B) string {
	b.Helper()
	repo := filepath.Join(b.TempDir(), "repo")
	run(b, "/", "init", "-q", repo)
	for i := range 10_000 {
		write(b, repo, fmt.Sprintf("dir%d/sub%d/file%d.txt", i%40, i%400, i), strings.Repeat(fmt.Sprintf("line of file %d\n", i), 200))
	}
	for i := range 40 {
		write(b, repo, fmt.Sprintf("dir%d/changing", i), fmt.Sprint(i))
		commit(b, repo, fmt.Sprint(i))
	}
	return repo
}
