package vm

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm/vmmtest"
)

// fakeCopy is a directory whose only content is its path.
type fakeCopy struct{ api.Copy }

func (f fakeCopy) Info() api.WorkspaceInfo {
	return api.WorkspaceInfo{HostPath: f.Path, GuestPath: f.GuestPath, ReadOnly: f.ReadOnly}
}

func (f fakeCopy) Push(ctx context.Context, extract func(context.Context, string, io.Reader) error, _ api.ProgressFunc) error {
	return extract(ctx, f.GuestPath, strings.NewReader(f.Path))
}

// TestCopies: further directories are copied one after the other. Those that are
// read-only are so at each boot from then on, but not while they are copied.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	type extracted struct {
		guest.ExtractParams
		Content string
	}
	boots, extracts := make(chan []string, 3), make(chan extracted, 3)
	w.driver = vmmtest.NewFake(func(vm *vmmtest.VM) vmmtest.Serve {
		agent := vmmtest.NewAgent(vm)
		agent.OnBoot = func(c guest.BootConfig) error { boots <- c.ReadOnly; return nil }
		agent.OnExtract = func(p guest.ExtractParams, r io.Reader) error {
			content, err := io.ReadAll(r)
			extracts <- extracted{p, string(content)}
			return err
		}
		return agent.Serve
	})
	copies := []api.Copy{{Path: "/a", GuestPath: "/srv/a", ReadOnly: true}, {Path: "/b", GuestPath: "/root/b"}}
	vm := w.create(t, api.CreateVM{Name: "web", Workspace: &api.Workspace{Path: "/repo"}, Copies: copies})
	want := []api.WorkspaceInfo{{HostPath: "/a", GuestPath: "/srv/a", ReadOnly: true}, {HostPath: "/b", GuestPath: "/root/b"}}
	if diff := cmp.Diff(want, vm.Copies); diff != "" {
		t.Error(diff)
	}
	if readOnly := <-boots; readOnly != nil {
		t.Errorf("at the first boot, %v can't be written to", readOnly)
	}
	for _, c := range copies {
		want := extracted{guest.ExtractParams{Path: c.GuestPath, ReadOnly: c.ReadOnly}, c.Path}
		if got := <-extracts; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	phases := make(map[string]bool)
	for _, p := range vm.Timing {
		phases[p.Phase] = true
	}
	if !phases["workspace"] || !phases["copies"] {
		t.Errorf("timing: %v", vm.Timing)
	}
	w.restart(t)
	if _, err := w.Stop(t.Context(), "web", api.StopVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Start(t.Context(), "web", api.StartVM{}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/srv/a"}, <-boots); diff != "" {
		t.Errorf("read-only at the next boot: %s", diff)
	}
	if len(extracts) > 0 {
		t.Error("it was copied once more")
	}
}

// TestCopiesThatAreRefused: no VM is made for them.
func TestCopiesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	boom := errors.New("boom")
	w.config.InspectCopy = func(_ context.Context, c api.Copy) (Workspace, error) {
		if c.Path == "/bad" {
			return nil, boom
		}
		return fakeCopy{c}, nil
	}
	w.restart(t)
	at := func(places ...string) []api.Copy {
		var copies []api.Copy
		for _, place := range places {
			copies = append(copies, api.Copy{Path: "/host", GuestPath: place})
		}
		return copies
	}
	ws := &api.Workspace{Path: "/repo"} // at /root/repo
	for name, test := range map[string]struct {
		req  api.CreateVM
		want error
		text string
	}{
		"itself":               {api.CreateVM{Copies: []api.Copy{{Path: "/bad"}}}, boom, "boom"},
		"twice":                {api.CreateVM{Copies: at("/srv/a", "/srv/a")}, api.ErrInvalid, "both be at /srv/a"},
		"inside":               {api.CreateVM{Copies: at("/srv/a", "/srv/b", "/srv/a/b")}, api.ErrInvalid, "at /srv/a/b in the VM, inside of"},
		"around":               {api.CreateVM{Copies: at("/srv/a/b", "/srv")}, api.ErrInvalid, "at /srv/a/b in the VM, inside of"},
		"at the workspace":     {api.CreateVM{Workspace: ws, Copies: at("/root/repo")}, api.ErrInvalid, "/repo and /host would both be"},
		"in the workspace":     {api.CreateVM{Workspace: ws, Copies: at("/root/repo/lib")}, api.ErrInvalid, "/host would be at /root/repo/lib"},
		"not started":          {api.CreateVM{NoStart: true, Copies: at("/srv/a")}, api.ErrInvalid, "isn't started"},
		"workspace, not begun": {api.CreateVM{NoStart: true, Workspace: ws}, api.ErrInvalid, "isn't started"},
	} {
		_, err := w.Create(t.Context(), test.req, nil)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
		if test.want == error(api.ErrInvalid) && api.AsError(err).Hint == "" {
			t.Errorf("%s: no hint", name)
		}
		w.wantNothing(t)
	}
	vm := w.create(t, api.CreateVM{Workspace: ws, Copies: at("/root/repo2", "/root/rep", "/root/repo2-b")})
	if len(vm.Copies) != 3 {
		t.Errorf("copies: %v", vm.Copies)
	}
}

// TestFailedCopyIsTakenBack: half of what was asked for is of no use.
func TestFailedCopyIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.config.InspectCopy = func(context.Context, api.Copy) (Workspace, error) {
		return failingWorkspace{err: errors.New("boom")}, nil
	}
	w.restart(t)
	if _, err := w.Create(t.Context(), api.CreateVM{Copies: []api.Copy{{}}}, nil); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v, want boom", err)
	}
	w.wantNothing(t)
}
