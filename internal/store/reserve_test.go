package store

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk returns a directory on a small file system of its own, and a file
// there; fill has that take what is left.
func fullDisk(t *testing.T) (dir, ballast string, fill func()) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("banger", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("SKIPPED: can't mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast = filepath.Join(dir, "ballast")
	return dir, ballast, func() {
		t.Helper()
		f, err := os.OpenFile(ballast, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func openAt(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, schema(migrations))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// write stores a row that takes more room than an open database has left by
// chance.
func write(t *testing.T, db *DB, id string) error {
	t.Helper()
	return db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO a (id, extra) VALUES (?, zeroblob(200000))", id)
		return err
	})
}

// TestFullDisk: on a full disk a database is still opened and written, and when
// there is room again what that took is set aside anew.
func TestFullDisk(t *testing.T) {
	dir, ballast, fill := fullDisk(t)
	path := filepath.Join(dir, "db")
	db := openAt(t, path)
	fill()
	if err := write(t, db, "1"); err != nil {
		t.Fatalf("write: %v", err)
	}
	fill()
	if err := write(t, db, "2"); !IsFull(err) {
		t.Fatalf("with nothing set aside: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write(t, db, "3"); err != nil {
		t.Fatal(err)
	}
	fill()
	if err := write(t, db, "4"); err != nil {
		t.Fatalf("nothing was set aside anew: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = openAt(t, path)
	db.Close()
	fill()
	db = openAt(t, path)
	var n int
	if err := db.QueryRow("SELECT count(*) FROM a").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
	if err := write(t, db, "5"); err != nil {
		t.Errorf("write after a start: %v", err)
	}
}

// What failed once is rolled back before it is tried again.
func TestWriteIsATransaction(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "db"))
	wrong := errors.New("wrong")
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO a (id) VALUES ('1')")
		return errors.Join(err, wrong)
	})
	var n int
	if !errors.Is(err, wrong) {
		t.Error(err)
	}
	if err := db.QueryRow("SELECT count(*) FROM a").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}
