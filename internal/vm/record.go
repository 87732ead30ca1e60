package vm

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"banger/internal/api"
	"banger/internal/store"
	"banger/internal/vmm"
)

// shape is api.Shape under the names that records have always had.
type shape struct {
	VCPUs     int
	MemoryMiB int64
	DiskBytes int64
	SwapBytes int64
	Nested    bool
}

// Record is what bangerd keeps of a VM: what was asked for and the handles on
// what was made. Whether it runs is not in it; that is derived (state.go).
type Record struct {
	ID     string
	Name   string
	IP     netip.Addr
	Image  string
	Kernel string
	Driver string
	shape
	RealRoot  bool // its root is a copy of the image
	Temporary bool // it stays Doomed
	Env       map[string]string
	HostPorts []uint16 // of the host, which it may connect to
	// ImageConfig is how the image's publisher wants programs to run; nil for
	// images that say nothing of that.
	ImageConfig *api.ImageConfig
	HostKey     string // the guest's SSH host key, OpenSSH PEM
	HostPub     string // its public half
	Workspace   *api.WorkspaceInfo
	Copies      []api.WorkspaceInfo // further directories that are in the guest
	CreatedAt   time.Time

	// Doomed is set while the VM is being created or deleted, and for the life of
	// one that is to go by itself: whatever exists of it goes away when bangerd
	// next starts.
	Doomed bool
	Stage  Stage
	// Handle is the VMM, at the stages that have one.
	Handle *vmm.Handle
	// Stopping is set from when a stop was asked for until the VMM has ended: a
	// bangerd that starts meanwhile finishes the stop.
	Stopping   bool
	StartedAt  *time.Time
	StopReason string // why the last VMM ended, in words
	Timing     []api.PhaseTiming

	// broken says why the stored record can't be read. Only ID, Name and IP are
	// known then.
	broken error
}

// Schema is that of this package's records for store.Open.
var Schema = store.Schema{Name: "vm", Migrations: migrations, Numbered: true}

// migrations make a table, in which what must be unique is a column; the rest is
// JSON.
var migrations = []string{
	`CREATE TABLE vms (
		id     TEXT PRIMARY KEY,
		name   TEXT NOT NULL UNIQUE,
		ip     TEXT NOT NULL UNIQUE,
		record TEXT NOT NULL
	) STRICT`,
	// Stage takes the place of three booleans.
	`UPDATE vms SET record = json_set(json_remove(record, '$.Launching', '$.Booted', '$.Ready'), '$.Stage', CASE
		WHEN record ->> 'Handle' IS NULL AND record ->> 'Launching' THEN 'launching'
		WHEN record ->> 'Handle' IS NULL THEN 'down'
		WHEN record ->> 'Ready' THEN 'ready'
		WHEN record ->> 'Booted' THEN 'booted'
		ELSE 'booting' END)
	WHERE CASE WHEN json_valid(record) THEN json_type(record) = 'object' END`,
}

// records reads and writes Records.
type records struct {
	db    *store.DB
	names nameIndex // of what is in db, once load was called
}

// load is list, and makes the index of names.
func (r *records) load(ctx context.Context) ([]Record, error) {
	recs, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	r.names.fill(recs)
	return recs, nil
}

// insert stores a new record. A name or address in use gives a unique
// violation (store.IsUnique).
func (r *records) insert(ctx context.Context, rec Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record of VM %s: %w", rec.Name, err)
	}
	err = r.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO vms (id, name, ip, record) VALUES (?, ?, ?, ?)",
			rec.ID, rec.Name, rec.IP.String(), string(data))
		return err
	})
	if err != nil {
		return fmt.Errorf("store record of VM %s: %w", rec.Name, orFull(err))
	}
	r.names.insert(rec)
	return nil
}

// update applies change to the stored record and returns the result. It does
// not heed ctx's cancellation: what has happened must be written down. change
// may be called twice, each time with what is stored.
func (r *records) update(ctx context.Context, id string, change func(*Record)) (Record, error) {
	ctx = context.WithoutCancel(ctx)
	var rec Record
	err := r.db.Write(ctx, func(tx *sql.Tx) (err error) {
		if rec, err = scan(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM vms WHERE id = ?", id)); err != nil {
			return err
		}
		if rec.broken != nil {
			return rec.broken
		}
		if change(&rec); rec.broken != nil {
			return rec.broken
		}
		data, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode it: %w", err)
		}
		_, err = tx.ExecContext(ctx, "UPDATE vms SET record = ?, ip = ? WHERE id = ?", string(data), rec.IP.String(), id)
		return err
	})
	if err != nil {
		return Record{}, fmt.Errorf("update record of VM %s: %w", or(rec.Name, id), orFull(err))
	}
	return rec, nil
}

func (r *records) remove(ctx context.Context, id string) error {
	err := r.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM vms WHERE id = ?", id)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove record of VM %s: %w", id, orFull(err))
	}
	r.names.remove(id)
	return nil
}

// orFull returns err with what to do about it, if it comes of a full disk.
func orFull(err error) error {
	if !store.IsFull(err) {
		return err
	}
	full := api.Errorf(api.CodeHost, "%s", vmm.DiskFull).
		WithHint("free some space; banger vm stop --force and banger vm delete --force work without")
	return fmt.Errorf("%w: %w", full, err)
}

// find looks a VM up by name or id.
func (r *records) find(ctx context.Context, ref string) (Record, error) {
	rec, err := scan(r.db.QueryRowContext(ctx, "SELECT "+columns+" FROM vms WHERE name = ?1 OR id = ?1", ref))
	if errors.Is(err, sql.ErrNoRows) {
		return Record{}, api.Errorf(api.CodeNotFound, "there is no VM %q", ref).WithHint("banger vm list shows them")
	}
	if err != nil {
		return Record{}, fmt.Errorf("look up VM %s: %w", ref, err)
	}
	return rec, nil
}

// list returns every record, oldest first. One that can't be read takes no other
// away.
func (r *records) list(ctx context.Context) ([]Record, error) {
	rows, err := r.db.QueryContext(ctx, "SELECT "+columns+
		" FROM vms ORDER BY CASE WHEN json_valid(record) THEN record ->> 'CreatedAt' END, name")
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	defer rows.Close()
	var recs []Record
	for rows.Next() {
		rec, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list VMs: %w", err)
		}
		recs = append(recs, rec)
	}
	return recs, rows.Err()
}

// columns are those that scan reads.
const columns = "id, name, ip, record"

// scan reads a record. The columns have the last word: what a damaged record
// says of its id would lead to the files of others.
func scan(row interface{ Scan(...any) error }) (Record, error) {
	var id, name, ip, data string
	if err := row.Scan(&id, &name, &ip, &data); err != nil {
		return Record{}, err
	}
	var rec Record
	err := json.Unmarshal([]byte(data), &rec)
	if err == nil && (rec.ID != id || rec.Name != name || rec.IP.String() != ip) {
		err = errors.New("it is another VM's")
	}
	if err == nil {
		err = rec.checkStage()
	}
	if err != nil {
		rec = Record{ID: id, Name: name, broken: fmt.Errorf("its record can't be read: %w", err)}
		rec.IP, _ = netip.ParseAddr(ip) // the zero address stands for a damaged one
	}
	return rec, nil
}

// claim gives the record an id, a free address and, unless one was asked for, a
// free name, and stores it. Uniqueness is the database's business: whoever
// loses a race for an address or a generated name looks again.
func (r *records) claim(ctx context.Context, wanted Record, hosts iter.Seq[netip.Addr]) (Record, error) {
	taken, err := r.list(ctx)
	if err != nil {
		return Record{}, err
	}
	addresses := make(map[netip.Addr]bool, len(taken))
	names := make(map[string]bool, len(taken))
	for _, t := range taken {
		addresses[t.IP] = true
		names[t.Name] = true
	}
	rec := wanted
	if names[rec.Name] {
		return Record{}, nameTaken(rec.Name)
	}
	for rec.Name == "" || names[rec.Name] {
		rec.Name = generateName()
		if len(names) > len(adjectives)*len(nouns)/2 {
			rec.Name += "-" + rec.ID[:4]
		}
	}
	for rec.IP = range hosts {
		if addresses[rec.IP] {
			continue
		}
		err := r.insert(ctx, rec)
		if store.IsUnique(err) {
			return r.claim(ctx, wanted, hosts)
		}
		return rec, err
	}
	return Record{}, noAddress()
}

// readdress gives a VM that is about to start another address, if the network
// has become another one since it got its own.
func (r *records) readdress(ctx context.Context, rec Record, hosts iter.Seq[netip.Addr]) (Record, error) {
	recs, err := r.list(ctx)
	if err != nil {
		return rec, err
	}
	taken := make(map[netip.Addr]bool, len(recs))
	for _, other := range recs {
		taken[other.IP] = other.ID != rec.ID
	}
	var free netip.Addr
	for addr := range hosts { // which ascend
		if addr == rec.IP {
			return rec, nil
		}
		if !free.IsValid() && !taken[addr] {
			free = addr
		}
		if free.IsValid() && rec.IP.Less(addr) {
			break
		}
	}
	if !free.IsValid() {
		return rec, noAddress()
	}
	updated, err := r.update(ctx, rec.ID, func(rec *Record) { rec.IP = free })
	if store.IsUnique(err) { // a new VM was faster
		return r.readdress(ctx, rec, hosts)
	}
	if err != nil {
		return rec, err
	}
	r.names.remove(rec.ID)
	r.names.insert(updated)
	return updated, nil
}

func noAddress() error {
	return api.Errorf(api.CodeConflict, "all addresses of the network are in use").
		WithHint("delete VMs that you don't need, or set a larger cidr in the configuration")
}

func nameTaken(name string) error {
	return api.Errorf(api.CodeExists, "there is already a VM named %q", name).
		WithHint("banger vm ssh %s goes into it; banger vm delete --force %s makes room", name, name)
}
