package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Schema is the tables of one package, which change without regard to those of
// others.
type Schema struct {
	Name       string   // of the package; it stays
	Migrations []string // only ever appended to
	// Numbered is true for the one schema that there was before schemas had names:
	// SQLite's user_version said how many of its migrations were applied.
	Numbered bool
}

// named is the user_version of databases that have the table below. It is larger
// than any that a banger without it takes for its own.
const named = 1000

// versionTable says how many migrations of each schema were applied.
const versionTable = `CREATE TABLE schema_versions (
	name    TEXT PRIMARY KEY,
	version INTEGER NOT NULL
) STRICT`

// migrate brings a database up to date. One that isn't understood stays as it is.
func migrate(ctx context.Context, db *sql.DB, schemas []Schema) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	have, err := versions(ctx, db, version, schemas)
	if err != nil {
		return err
	}
	for _, s := range schemas {
		if err := s.check(have[s.Name]); err != nil {
			return err
		}
	}
	if version != named {
		if err := nameSchemas(ctx, db, have); err != nil {
			return err
		}
	}
	for _, s := range schemas {
		if err := s.apply(ctx, db, have[s.Name]); err != nil {
			return err
		}
	}
	return nil
}

// versions returns how many migrations of each schema were applied to a database
// of that user_version.
func versions(ctx context.Context, db *sql.DB, version int, schemas []Schema) (map[string]int, error) {
	have := make(map[string]int, len(schemas))
	for _, s := range schemas {
		if s.Numbered && version != named {
			have[s.Name] = version
			return have, nil
		}
	}
	switch {
	case version < 0:
		return nil, fmt.Errorf("it is damaged: it says that its schema is %d", version)
	case version == 0:
		return have, nil
	case version != named:
		return nil, newer("schema %d", version)
	}
	known := make(map[string]bool, len(schemas))
	for _, s := range schemas {
		known[s.Name] = true
	}
	rows, err := db.QueryContext(ctx, "SELECT name, version FROM schema_versions")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var applied int
		if err := rows.Scan(&name, &applied); err != nil {
			return nil, err
		}
		if !known[name] {
			return nil, newer("it has a schema %.100q, which this one doesn't know", name)
		}
		if _, twice := have[name]; twice { // an index without end, say
			return nil, fmt.Errorf("it is damaged: it has the version of schema %s twice", name)
		}
		have[name] = applied
	}
	return have, rows.Err()
}

func newer(format string, args ...any) error {
	return fmt.Errorf("it was written by a newer banger (%s)", fmt.Sprintf(format, args...))
}

// check refuses a version that this program hasn't made.
func (s Schema) check(version int) error {
	if version < 0 {
		return fmt.Errorf("it is damaged: it says that its schema %s is %d", s.Name, version)
	}
	if version > len(s.Migrations) {
		return newer("schema %s %d, this one knows %d", s.Name, version, len(s.Migrations))
	}
	return nil
}

// nameSchemas makes the table of versions, with those that there are.
func nameSchemas(ctx context.Context, db *sql.DB, have map[string]int) error {
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, versionTable); err != nil {
			return err
		}
		for name, version := range have {
			if err := setVersion(ctx, tx, name, version); err != nil {
				return err
			}
		}
		// user_version takes no parameter; the number is ours.
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", named))
		return err
	})
}

// apply applies the migrations behind the first ones.
func (s Schema) apply(ctx context.Context, db *sql.DB, version int) error {
	for i, statement := range s.Migrations[version:] {
		err := inTransaction(ctx, db, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
			return setVersion(ctx, tx, s.Name, version+i+1)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func setVersion(ctx context.Context, tx *sql.Tx, name string, version int) error {
	_, err := tx.ExecContext(ctx,
		"INSERT INTO schema_versions (name, version) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET version = excluded.version", name, version)
	return err
}

func inTransaction(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
