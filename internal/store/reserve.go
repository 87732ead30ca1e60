package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"banger/internal/room"
)

const (
	// reserveSize is what is set aside for times when the disk is full, in bytes.
	// SQLite's log takes half of that until it begins anew. It is less than a VMM
	// waits for with a guest that has found the disk full.
	reserveSize = 8 << 20
	// reserveRoom is how much must be free for it to be set aside.
	reserveRoom = reserveSize + reserveSize/2
)

// DB is a database that can still be written for a while when its disk is full:
// a file beside it, whose content is of no use, makes room then.
type DB struct {
	*sql.DB
	reserve reserve
}

// Write does changes in a transaction, which is rolled back if do fails. Where
// the disk is full it calls do once more with the reserve given up. Errors of do
// are passed on as they are.
func (db *DB) Write(ctx context.Context, do func(tx *sql.Tx) error) error {
	err := db.write(ctx, do)
	if IsFull(err) && db.reserve.release() {
		return db.write(ctx, do)
	}
	if err == nil {
		db.reserve.make()
	}
	return err
}

func (db *DB) write(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it is a no-op, before it the first error counts
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// IsFull reports whether err says that the disk has no room for a change.
func IsFull(err error) bool {
	var e *sqlite.Error
	// The second is said of the file that connections share.
	return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// reserve is a file that takes room on a disk until that is needed.
type reserve struct {
	path string

	mu   sync.Mutex
	made bool
}

// release gives up the room. It returns false if there is none to give up.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = false
	return os.Remove(r.path) == nil
}

// make sets the room aside, if it isn't and the disk has enough: one that is
// nearly full is left to what needs it more.
func (r *reserve) make() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made {
		return
	}
	if info, err := os.Stat(r.path); err == nil && info.Size() == reserveSize {
		r.made = true
		return
	}
	if free, err := room.Free(filepath.Dir(r.path)); err != nil || free < reserveRoom {
		return
	}
	if err := r.fill(); err != nil {
		_ = os.Remove(r.path) // part of it is of no use
		return
	}
	r.made = true
}

// fill writes what no file system can make smaller.
func (r *reserve) fill() error {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("set room aside: %w", err)
	}
	_, err = io.CopyN(f, rand.Reader, reserveSize)
	return errors.Join(err, f.Sync(), f.Close())
}
