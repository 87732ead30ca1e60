package store

import (
	"path/filepath"
	"strings"
	"testing"
)

var migrations = []string{
	"CREATE TABLE a (id TEXT PRIMARY KEY, name TEXT UNIQUE)",
	"ALTER TABLE a ADD COLUMN extra TEXT DEFAULT 'none'",
}

// schema is the one of a package whose migrations were numbered once.
func schema(migrations []string) Schema {
	return Schema{Name: "a", Migrations: migrations, Numbered: true}
}

func TestMigrationsApplyOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space%20?.db")
	db, err := Open(t.Context(), path, schema(migrations[:1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO a VALUES ('1', 'x')"); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()

	db, err = Open(t.Context(), path, schema(migrations))
	if err != nil {
		t.Fatal(err)
	}
	var extra string
	if err := db.QueryRow("SELECT extra FROM a WHERE id = '1'").Scan(&extra); err != nil || extra != "none" {
		t.Fatalf("row after migration: %q, %v", extra, err)
	}
	_, err = db.Exec("INSERT INTO a (id, name) VALUES ('2', 'x')")
	if !IsUnique(err) {
		t.Errorf("second row of the same name: %v, want a unique violation", err)
	}
	_ = db.Close()

	if _, err := Open(t.Context(), path, schema(migrations[:1])); err == nil || !strings.Contains(err.Error(), "newer banger") {
		t.Errorf("older program opens a newer database: %v", err)
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	bad := []string{"CREATE TABLE a (id TEXT); CREATE TABLE a (id TEXT)"}
	if _, err := Open(t.Context(), path, schema(bad)); err == nil {
		t.Fatal("a broken migration was accepted")
	}
	db, err := Open(t.Context(), path, schema(migrations))
	if err != nil {
		t.Fatalf("open after a failed migration: %v", err)
	}
	_ = db.Close()
}
