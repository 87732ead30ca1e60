package vm

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/store"
	"banger/internal/vmm"
)

var update = flag.Bool("update", false, "write the tables of docs/architecture.md anew")

func init() { illegalMove = func(err error) error { panic(err) } }

func TestAdvance(t *testing.T) {
	for _, from := range stages {
		for _, to := range stages {
			r := Record{Stage: from}
			if slices.Contains(moves[from], to) {
				if !r.advance(from, to) || r.Stage != to {
					t.Errorf("%s to %s: at %s", from, to, r.Stage)
				}
				continue
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s to %s is no move, and was made", from, to)
					}
				}()
				r.advance(from, to)
			}()
		}
	}
	ended := Record{Stage: StageDown}
	if ended.advance(StageBooting, StageBooted) || ended.Stage != StageDown {
		t.Errorf("a VM whose VMM has ended went on to %s", ended.Stage)
	}
}

// TestIllegalMoveIsNotStored: where no test panics the record stays as it is.
func TestIllegalMoveIsNotStored(t *testing.T) {
	w := newWorld(t)
	vm := w.create(t, api.CreateVM{Name: "web"})
	panics := illegalMove
	illegalMove = func(err error) error { return err }
	defer func() { illegalMove = panics }()
	_, err := w.records.update(t.Context(), vm.ID, func(r *Record) { r.advance(StageReady, StageBooted) })
	if err == nil || !strings.Contains(err.Error(), "can't go from stage") {
		t.Errorf("got %v", err)
	}
	w.wantWorking(t, "web")
}

// TestOldRecords: a bangerd takes over what one of before there were stages left,
// and a damaged record takes none of the others away.
func TestOldRecords(t *testing.T) {
	const handle = `"Handle":{"driver":"qemu","pid":1,"start_time":18446744073709551615}`
	file := filepath.Join(t.TempDir(), "db")
	db, err := store.Open(t.Context(), file, store.Schema{Name: Schema.Name, Migrations: migrations[:1], Numbered: true})
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]struct {
		fields string
		want   Stage
	}{
		"down":      {`"Handle":null,"Launching":false,"Booted":false,"Ready":false`, StageDown},
		"launching": {`"Handle":null,"Launching":true`, StageLaunching},
		"booting":   {handle + `,"Booted":false`, StageBooting},
		"booted":    {handle + `,"Booted":true,"Ready":false`, StageBooted},
		"ready":     {handle + `,"Booted":true,"Ready":true,"DiskBytes":9007199254740993`, StageReady},
		"damaged":   {`]`, ""},
	}
	n := 0
	for name, c := range old {
		n++
		ip := fmt.Sprint("10.0.0.", n)
		record := fmt.Sprintf(`{"ID":%q,"Name":%q,"IP":%q,%s}`, name, name, ip, c.fields)
		if _, err := db.ExecContext(t.Context(), "INSERT INTO vms (id, name, ip, record) VALUES (?, ?, ?, ?)", name, name, ip, record); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), file, Schema); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	recs, err := (&records{db: db}).list(t.Context())
	if err != nil || len(recs) != len(old) {
		t.Fatalf("%d of %d records, %v", len(recs), len(old), err)
	}
	for _, rec := range recs {
		want := old[rec.Name].want
		if rec.Stage != want || (rec.broken != nil) != (want == "") {
			t.Errorf("%s is %q (%v)", rec.Name, rec.Stage, rec.broken)
		}
		if rec.Handle != nil && rec.Handle.StartTime != math.MaxUint64 {
			t.Errorf("%s: its VMM started at %d", rec.Name, rec.Handle.StartTime)
		}
		if rec.Name == "ready" && rec.DiskBytes != 1<<53+1 {
			t.Errorf("a disk of %d bytes", rec.DiskBytes)
		}
	}
}

func TestStageThatDoesNotFit(t *testing.T) {
	for _, r := range []Record{{Stage: "flying"}, {}, {Stage: StageReady}, {Stage: StageDown, Handle: &vmm.Handle{}}} {
		if r.checkStage() == nil {
			t.Errorf("%+v passes", r)
		}
	}
}

// seen is what can be seen of a VM, as the tables of the documentation name it.
var seen = []struct {
	name  string
	facts facts
}{
	{"nothing", facts{}},
	{"a create or start", facts{operation: opStart}},
	{"its VMM", facts{alive: true}},
	{"its VMM, and a stop", facts{alive: true, operation: opStop}},
	{"its VMM, which has stopped the guest", facts{alive: true, held: vmm.DiskFull}},
	{"that its VMM isn't reached", facts{unreached: "no answer"}},
}

// stateTables prints what the documentation says of stages and states, by asking
// the code.
func stateTables() string {
	var b strings.Builder
	line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	rule := func(n int) { fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", n)) }
	line("stage", "next")
	rule(2)
	for _, stage := range stages {
		var next []string
		for _, to := range moves[stage] {
			next = append(next, string(to))
		}
		line("`"+string(stage)+"`", strings.Join(next, ", "))
	}

	head := []string{"seen"}
	for _, stage := range stages {
		head = append(head, "at `"+string(stage)+"`")
	}
	b.WriteString("\n")
	line(head...)
	rule(len(head))
	for _, s := range seen {
		row := []string{s.name}
		for _, stage := range stages {
			rec := Record{Stage: stage}
			if s.facts.alive && !stage.hasVMM() {
				row = append(row, "")
				continue
			}
			never := observe(rec, s.facts)
			rec.StartedAt = &rec.CreatedAt
			state := string(observe(rec, s.facts))
			if stage == StageDown && state != string(never) {
				state = fmt.Sprintf("%s, once started %s", never, state)
			}
			row = append(row, state)
		}
		line(row...)
	}

	requests := []struct {
		name string
		req  request
	}{
		{"start", request{operation: opStart}},
		{"stop", request{operation: opStop}}, {"stop --force", request{operation: opStop, force: true}},
		{"delete", request{operation: opDelete}}, {"delete --force", request{operation: opDelete, force: true}},
	}
	head = []string{"may be asked for when it is"}
	for _, state := range inState {
		head = append(head, string(state.name))
	}
	b.WriteString("\n")
	line(head...)
	rule(len(head))
	for _, r := range requests {
		row := []string{"`" + r.name + "`"}
		for _, state := range inState {
			answer := "no"
			if admit(r.req, state.rec, state.facts) == nil {
				answer = "yes"
			}
			row = append(row, answer)
		}
		line(row...)
	}
	return b.String()
}

// inState has a VM in every state.
var inState = func() []struct {
	name  api.State
	rec   Record
	facts facts
} {
	at := func(stage Stage) Record { return Record{Stage: stage, StartedAt: new(time.Time)} }
	stopping := at(StageReady)
	stopping.Stopping = true
	return []struct {
		name  api.State
		rec   Record
		facts facts
	}{
		{api.StateCreated, Record{Stage: StageDown}, facts{}},
		{api.StateStarting, at(StageBooting), facts{alive: true}},
		{api.StateRunning, at(StageReady), facts{alive: true}},
		{api.StatePaused, at(StageReady), facts{alive: true, held: vmm.DiskFull}},
		{api.StateStopping, stopping, facts{alive: true}},
		{api.StateStopped, at(StageDown), facts{}},
		{api.StateUnknown, at(StageReady), facts{unreached: "no answer"}},
	}
}()

func TestObserveEveryState(t *testing.T) {
	for _, s := range inState {
		if got := observe(s.rec, s.facts); got != s.name {
			t.Errorf("got %s, want %s", got, s.name)
		}
	}
	for _, s := range seen {
		for _, stage := range stages {
			broken := Record{Stage: stage, broken: fmt.Errorf("no")}
			if got := observe(broken, s.facts); got != api.StateUnknown && s.facts.operation != opStop {
				t.Errorf("a damaged record at %s, with %s seen, is %s", stage, s.name, got)
			}
		}
	}
}

// TestStatesInDocs: docs/architecture.md says what the code does. go test
// ./internal/vm -run StatesInDocs -update writes it.
func TestStatesInDocs(t *testing.T) {
	const file, begin, end = "../../docs/architecture.md", "<!-- printed by TestStatesInDocs -->\n", "<!-- end -->\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", file)
	}
	tables := stateTables()
	if old == tables {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the code, which says:\n%s", file, tables)
	}
	if err := os.WriteFile(file, []byte(before+begin+tables+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
