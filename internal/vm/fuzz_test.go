package vm

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"banger/internal/api"
	"banger/internal/store"
)

// FuzzName takes what users call a VM. It is a directory's, a host's and a
// process's, and stands in command lines.
func FuzzName(f *testing.F) {
	for _, name := range []string{"web", "0", "a-b", "-a", "a-", "a.b", "a_b", "A", "", "..", "a\n", "web\x00", "é", "0123456789ab", strings.Repeat("n", 64)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.Base(name) != name || strings.HasPrefix(name, ".") {
			t.Errorf("%q is no file name", name)
		}
		if strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") || len(name) > 63 || strings.ToLower(name) != name {
			t.Errorf("%q is no DNS label, or an option", name)
		}
		packed, err := new(dns.Msg).SetQuestion(name+".vm.", dns.TypeA).Pack()
		var asked dns.Msg
		if err == nil {
			err = asked.Unpack(packed)
		}
		if err != nil || asked.Question[0].Name != name+".vm." {
			t.Errorf("%q can't be asked for: %v", name, err)
		}
		const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
		if strings.Trim(name, letters) != "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(letters, r) }) {
			t.Errorf("%q has other than letters, digits and '-'", name)
		}
		if idSyntax.MatchString(name) {
			t.Errorf("%q could be an id", name)
		}
	})
}

// FuzzRecord puts a record into the table that no banger, or a damaged one, has
// written. It is shown, found and removed, and takes nothing from another one.
func FuzzRecord(f *testing.F) {
	db, err := store.Open(f.Context(), filepath.Join(f.TempDir(), "db"), Schema)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	fine, err := json.Marshal(Record{ID: "fine", Name: "fine", Stage: StageDown, CreatedAt: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("id", "web", "10.0.0.2", `{"ID":"id","Name":"web","IP":"10.0.0.2","Stage":"ready","Handle":{"pid":1},"Timing":[{}],"StartedAt":"2024-01-01T00:00:00Z"}`)
	f.Add("id", "web", "10.0.0.2", `{"ID":"fine","Name":"fine"}`)
	f.Add("../x", "\x1b[2J", "nonsense", `{"CreatedAt":[1,{"a":2}]}`)
	f.Add("", "", "", `[`)
	f.Add("i", "n", "1.2.3.4", `{"ImageConfig":{"env":null},"Workspace":{},"Env":{"":""},"DiskBytes":-1,"CreatedAt":"9999-99-99"}`)
	f.Fuzz(func(t *testing.T, id, name, ip, record string) {
		r := &records{db: db}
		ctx := t.Context()
		if _, err := db.ExecContext(ctx, "DELETE FROM vms"); err != nil {
			t.Fatal(err)
		}
		const insert = "INSERT INTO vms (id, name, ip, record) VALUES (?, ?, ?, ?)"
		if _, err := db.ExecContext(ctx, insert, "fine", "fine", "invalid IP", string(fine)); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, insert, id, name, ip, record); err != nil {
			return
		}
		recs, err := r.load(ctx)
		if err != nil || len(recs) != 2 {
			t.Fatalf("%d of 2 records: %v", len(recs), err)
		}
		for _, rec := range recs {
			if rec.ID == "fine" && rec.broken != nil {
				t.Errorf("the other one can't be read: %v", rec.broken)
			}
			if rec.ID != "fine" && (rec.ID != id || rec.Name != name) {
				t.Errorf("the record of %q says that it is %q, %q", id, rec.ID, rec.Name)
			}
			vm := describe(rec, facts{})
			if _, err := json.Marshal(vm); err != nil && rec.broken != nil {
				t.Errorf("it can't be shown: %v", err)
			}
			if rec.broken != nil && vm.State != api.StateUnknown {
				t.Errorf("a record that can't be read is %q", vm.State)
			}
		}
		if _, err := r.find(ctx, id); err != nil {
			t.Errorf("it isn't found: %v", err)
		}
		if err := r.remove(ctx, id); err != nil {
			t.Error(err)
		}
		if rec, err := r.find(ctx, "fine"); err != nil || rec.broken != nil || rec.ID != "fine" {
			t.Errorf("the other one is %+v (%v)", rec, err)
		}
	})
}
