// Package store opens banger's database and keeps its schema current. It knows
// no domain type: every package that keeps records brings its own migrations
// and its own SQL.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Open opens (or makes) the SQLite database at path and applies those of the
// schemas' migrations that it hasn't seen. A database of a newer banger is refused.
//
// Every commit is durable when it returns (WAL with synchronous=FULL). There is
// one connection, so that writers queue here instead of failing as busy.
//
// Changes go through DB.Write. What that has set aside serves Open too, since
// SQLite makes files to open a database that was closed.
func Open(ctx context.Context, path string, schemas ...Schema) (*DB, error) {
	db := &DB{reserve: reserve{path: path + ".reserve"}}
	err := db.open(ctx, path, schemas)
	if IsFull(err) && db.reserve.release() {
		err = db.open(ctx, path, schemas)
	}
	if err != nil {
		return nil, err
	}
	db.reserve.make()
	return db, nil
}

func (db *DB) open(ctx context.Context, path string, schemas []Schema) error {
	query := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"journal_mode(wal)", "synchronous(full)", "busy_timeout(10000)", "foreign_keys(on)"},
	}
	opened, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	opened.SetMaxOpenConns(1)
	if err := migrate(ctx, opened, schemas); err != nil {
		_ = opened.Close() // the first error tells more
		return fmt.Errorf("prepare database %s: %w", path, err)
	}
	db.DB = opened
	return nil
}

// IsUnique reports whether err says that a UNIQUE constraint was violated.
func IsUnique(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
