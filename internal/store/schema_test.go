package store

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// old makes a database as bangers left it that numbered their migrations, with a
// row if any was applied, and lets change do what it likes to it.
func old(t *testing.T, version int, change ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	statements := migrations[:min(max(version, 0), len(migrations))]
	if len(statements) > 0 {
		statements = append(statements[:len(statements):len(statements)], "INSERT INTO a (id, name) VALUES ('1', 'x')")
	}
	statements = append(statements[:len(statements):len(statements)], fmt.Sprintf("PRAGMA user_version = %d", version))
	for _, s := range append(statements, change...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

var other = []string{"CREATE TABLE b (id TEXT)", "ALTER TABLE b ADD COLUMN more TEXT"}

// tables returns what the database holds, in the order of names.
func tables(t *testing.T, db *DB) string {
	t.Helper()
	var all string
	err := db.QueryRow(`SELECT group_concat(name || ' ' || (SELECT count(*) FROM pragma_table_info(t.name)), ', ')
		FROM (SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'schema_versions' ORDER BY name) t`).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestOldDatabase: one whose migrations were numbered goes on with that number,
// for the schema that there was.
func TestOldDatabase(t *testing.T) {
	for version := range len(migrations) + 1 {
		path := old(t, version)
		for range 2 { // the second time nothing is left to do
			db, err := Open(t.Context(), path, Schema{Name: "b", Migrations: other}, schema(migrations))
			if err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if got := tables(t, db); got != "a 3, b 2" {
				t.Errorf("version %d: there is %s", version, got)
			}
			var rows, number int
			if err := db.QueryRow("SELECT count(*) FROM a WHERE extra = 'none'").Scan(&rows); err != nil || rows != min(version, 1) {
				t.Errorf("version %d: %d rows, %v", version, rows, err)
			}
			// By this an older banger knows that it can't read it.
			if err := db.QueryRow("PRAGMA user_version").Scan(&number); err != nil || number != named {
				t.Errorf("version %d: user_version is %d, %v", version, number, err)
			}
			_ = db.Close()
		}
	}
}

// TestSchemasApart: each schema gets further when its package does, in any order.
func TestSchemasApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for _, step := range []struct {
		a, b int
		want string
	}{{1, 0, "a 2"}, {1, 1, "a 2, b 1"}, {2, 1, "a 3, b 1"}, {2, 2, "a 3, b 2"}} {
		db, err := Open(t.Context(), path, schema(migrations[:step.a]), Schema{Name: "b", Migrations: other[:step.b]})
		if err != nil {
			t.Fatal(err)
		}
		if got := tables(t, db); got != step.want {
			t.Errorf("after %+v there is %s", step, got)
		}
		_ = db.Close()
	}
	if _, err := Open(t.Context(), path, schema(migrations)); err == nil || !strings.Contains(err.Error(), "newer banger") {
		t.Errorf("without a schema that it has: %v", err)
	}
	if _, err := Open(t.Context(), path, schema(migrations), Schema{Name: "b", Migrations: other[:1]}); err == nil || !strings.Contains(err.Error(), "newer banger") {
		t.Errorf("with an older one: %v", err)
	}
}

// TestForeignDatabase: what isn't of this banger or an older one is refused, and
// left as it is.
func TestForeignDatabase(t *testing.T) {
	for name, c := range map[string]struct{ path, want string }{
		"newer, numbered": {old(t, len(migrations)+1), "newer banger"},
		"just below":      {old(t, named-1), "newer banger"},
		"of the future":   {old(t, named+1), "newer banger"},
		"absurd":          {old(t, 1<<31-1), "newer banger"},
		"negative":        {old(t, -1), "damaged"},
		"no table":        {old(t, named), "schema_versions"},
		"another table":   {old(t, named, "CREATE TABLE schema_versions (x TEXT)"), "no such column"},
		"unknown schema":  {old(t, named, versionTable, "INSERT INTO schema_versions VALUES ('c', 1)"), "newer banger"},
		"newer schema":    {old(t, named, versionTable, "INSERT INTO schema_versions VALUES ('a', 3)"), "newer banger"},
		"negative schema": {old(t, named, versionTable, "INSERT INTO schema_versions VALUES ('a', -1)"), "damaged"},
		"twice":           {old(t, named, "CREATE TABLE schema_versions (name TEXT, version INTEGER)", "INSERT INTO schema_versions VALUES ('a', 1), ('a', 1)"), "damaged"},
		"no number":       {old(t, named, "CREATE TABLE schema_versions (name TEXT, version TEXT)", "INSERT INTO schema_versions VALUES ('a', 'x')"), "Scan"},
	} {
		before := dump(t, c.path)
		if _, err := Open(t.Context(), c.path, schema(migrations)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if after := dump(t, c.path); after != before {
			t.Errorf("%s: it was changed from %s to %s", name, before, after)
		}
	}
}

// dump tells what a database's schema is.
func dump(t *testing.T, path string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all sql.NullString
	var version int
	if err := db.QueryRow("SELECT group_concat(sql) FROM sqlite_schema").Scan(&all); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(version, all.String)
}
