package banger

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGoroutinesAreGuarded finds goroutines of bangerd that are started without
// package guard: a panic on one ends bangerd, and with it the control of every
// VM. All of its packages are held to it, as it is hard to tell which goroutine
// can't come to touch what a guest, a repository, an image or a server sent.
//
// It goes by the text: a go statement belongs in guard alone, and what a
// method named Go is given (sync.WaitGroup, errgroup.Group), or a function named
// AfterFunc (context, time), must be made by guard.Func or guard.ErrFunc.
func TestGoroutinesAreGuarded(t *testing.T) {
	files := bangerdFiles(t)
	if !slices.ContainsFunc(files, func(file string) bool { return strings.HasSuffix(file, "/cmd/bangerd/main.go") }) {
		t.Error("bangerd's own package isn't looked at")
	}
	found := 0
	for _, file := range files {
		for _, f := range unguarded(t, file) {
			t.Errorf("%s: a panic here would end bangerd: start it by package guard", f)
		}
		found++
	}
	if found < 50 {
		t.Fatalf("looked at %d files only", found)
	}
}

// bangerdFiles are the files of this module that bangerd is made of, without
// those of guard.
func bangerdFiles(t *testing.T) []string {
	t.Helper()
	const format = `{{if and .Module .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}`
	out, err := exec.Command("go", "list", "-deps", "-f", format, "./cmd/bangerd").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var files []string
	for _, file := range strings.Fields(string(out)) {
		if filepath.Base(filepath.Dir(file)) != "guard" {
			files = append(files, file)
		}
	}
	return files
}

// unguarded returns where a file starts goroutines by itself.
func unguarded(t *testing.T, file string) []token.Position {
	t.Helper()
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []token.Position
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, set.Position(n.Pos()))
		case *ast.CallExpr:
			method, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Go", "TryGo", "AfterFunc"}, method.Sel.Name) || isGuard(method) {
				break
			}
			arg, ok := n.Args[len(n.Args)-1].(*ast.CallExpr)
			if !ok || !isGuard(arg.Fun) {
				found = append(found, set.Position(n.Pos()))
			}
		}
		return true
	})
	return found
}

// isGuard tells whether f is guard.Something.
func isGuard(f ast.Expr) bool {
	s, ok := f.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "guard"
}
