package store

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen opens a database of which some bytes are others: it is refused with
// an error, or works with errors.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "db")
	db, err := Open(f.Context(), path, schema(migrations))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO a (id, name) VALUES ('1', 'x'), ('2', 'y')"); err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil { // which empties the write-ahead log
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint16(0), uint16(len(good)-1))
	f.Add([]byte{}, uint16(0), uint16(100))
	f.Add([]byte("no database"), uint16(0), uint16(len(good)-1))
	f.Add([]byte{0xff, 0xff}, uint16(100), uint16(len(good)-1))
	f.Add([]byte{0, 0, 0, 99}, uint16(60), uint16(len(good)-1)) // user_version
	f.Add([]byte{0xff, 0, 0, 0}, uint16(60), uint16(len(good)-1))
	f.Fuzz(func(t *testing.T, change []byte, at, end uint16) {
		data := append([]byte(nil), good...)
		copy(data[int(at)%len(data):], change)
		data = data[:int(end)%len(data)+1]
		damaged := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(damaged, data, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), damaged, schema(migrations))
		if err != nil {
			return
		}
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), "SELECT id FROM a")
		if err != nil {
			return
		}
		defer rows.Close()
		for n := 0; rows.Next(); n++ {
			if n > len(good) {
				t.Fatal("there is no end of rows")
			}
		}
		_ = rows.Err()
	})
}
