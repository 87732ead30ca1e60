package daemontest

import (
	"context"
	"reflect"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
)

// HostileText is text that clears a terminal's screen, fills its clipboard,
// runs backwards and ends its line: in C0, in C1, and with invisible
// characters.
const HostileText = "h\x1b[2J\x1b]52;c;cm0=\x07\u009b2J\u0085\x7f\u202e\u2066\u200b\U000e0041\r\nbanger: forged\tend"

// HostileServices are services whose answers have HostileText in every string,
// whatever they are asked for. With fail, all calls fail, and their errors have
// it.
func HostileServices(fail bool) (HostileVMs, HostileImages, HostileKernels) {
	h := hostile{fail}
	return HostileVMs{h}, HostileImages{hostileInventory[api.Image]{h}}, HostileKernels{hostileInventory[api.Kernel]{h}}
}

type hostile struct{ fail bool }

// answer returns a T that is full of hostile text, or such an error.
func answer[T any](h hostile, progress api.ProgressFunc) (T, error) {
	var v T
	var p api.Progress
	fillHostile(reflect.ValueOf(&p).Elem())
	progress.Report(p)
	p.Notice, p.Millis = "", time.Minute.Milliseconds() // a notice is shown instead of the rest
	for _, finished := range []bool{false, false, true} {
		p.Finished = finished
		progress.Report(p)
	}
	if h.fail {
		e := new(api.Error)
		fillHostile(reflect.ValueOf(e).Elem())
		e.Code = api.CodeTimeout // the one whose VM is told
		return v, e
	}
	fillHostile(reflect.ValueOf(&v).Elem())
	return v, nil
}

// fillHostile sets everything that v has to something.
func fillHostile(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(HostileText)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint16:
		v.SetUint(5432)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillHostile(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillHostile(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillHostile(key)
		fillHostile(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fillHostile(v.Field(i))
		}
	default:
		panic("there is no hostile " + v.Type().String())
	}
}

// HostileVMs is a daemon.VMs and a daemon.Hosts.
type HostileVMs struct{ hostile }

// List returns one VM.
func (h HostileVMs) List(context.Context) ([]api.VM, error) { return answer[[]api.VM](h.hostile, nil) }

// Get returns a VM.
func (h HostileVMs) Get(context.Context, string) (api.VM, error) {
	return answer[api.VM](h.hostile, nil)
}

// Create returns a VM.
func (h HostileVMs) Create(_ context.Context, _ api.CreateVM, progress api.ProgressFunc) (api.VM, error) {
	return answer[api.VM](h.hostile, progress)
}

// Start returns a VM.
func (h HostileVMs) Start(_ context.Context, _ string, _ api.StartVM, progress api.ProgressFunc) (api.VM, error) {
	return answer[api.VM](h.hostile, progress)
}

// Stop returns a VM.
func (h HostileVMs) Stop(_ context.Context, _ string, _ api.StopVM, progress api.ProgressFunc) (api.VM, error) {
	return answer[api.VM](h.hostile, progress)
}

// Delete deletes nothing.
func (h HostileVMs) Delete(context.Context, string, api.DeleteVM) error {
	_, err := answer[api.None](h.hostile, nil)
	return err
}

// Access returns no real files.
func (h HostileVMs) Access(context.Context, string) (api.Access, error) {
	return answer[api.Access](h.hostile, nil)
}

// Dial connects to Echo.
func (h HostileVMs) Dial(context.Context, string, uint32) (guest.Conn, error) {
	if _, err := answer[api.None](h.hostile, nil); err != nil {
		return nil, err
	}
	host, guest, err := socketPair()
	if err == nil {
		go Echo(guest, 0)
	}
	return host, err
}

// ConsoleLog returns a file that can't be there.
func (h HostileVMs) ConsoleLog(context.Context, string) (string, error) {
	return answer[string](h.hostile, nil)
}

// Problems returns one, for it can't fail.
func (h HostileVMs) Problems() []string {
	problems, _ := answer[[]string](hostile{}, nil)
	return problems
}

// Host returns a host.
func (h HostileVMs) Host(context.Context) (api.Host, error) { return answer[api.Host](h.hostile, nil) }

// hostileInventory is a daemon.Inventory.
type hostileInventory[T any] struct{ hostile }

// List returns one thing.
func (h hostileInventory[T]) List(context.Context) ([]T, error) { return answer[[]T](h.hostile, nil) }

// Get returns a thing.
func (h hostileInventory[T]) Get(context.Context, string) (T, error) {
	return answer[T](h.hostile, nil)
}

// Catalog returns one entry.
func (h hostileInventory[T]) Catalog(context.Context) ([]api.CatalogEntry, error) {
	return answer[[]api.CatalogEntry](h.hostile, nil)
}

// Export writes nothing.
func (h hostileInventory[T]) Export(_ context.Context, _ string, _ api.ExportImage, progress api.ProgressFunc) (api.Exported, error) {
	return answer[api.Exported](h.hostile, progress)
}

// Delete deletes nothing.
func (h hostileInventory[T]) Delete(context.Context, string) error {
	_, err := answer[api.None](h.hostile, nil)
	return err
}

// Prune deletes nothing.
func (h hostileInventory[T]) Prune(context.Context, api.Prune) (api.Pruned, error) {
	return answer[api.Pruned](h.hostile, nil)
}

// HostileImages is a daemon.Images and a daemon.Usage.
type HostileImages struct{ hostileInventory[api.Image] }

// Pull returns an image.
func (h HostileImages) Pull(_ context.Context, _ api.PullImage, progress api.ProgressFunc) (api.Image, error) {
	return answer[api.Image](h.hostile, progress)
}

// Register returns an image.
func (h HostileImages) Register(context.Context, api.RegisterImage) (api.Image, error) {
	return answer[api.Image](h.hostile, nil)
}

// Build returns an image.
func (h HostileImages) Build(_ context.Context, _ api.BuildImage, progress api.ProgressFunc) (api.Image, error) {
	return answer[api.Image](h.hostile, progress)
}

// Commit returns an image.
func (h HostileImages) Commit(_ context.Context, _ api.CommitImage, progress api.ProgressFunc) (api.Image, error) {
	return answer[api.Image](h.hostile, progress)
}

// Usage returns one item.
func (h HostileImages) Usage(context.Context) (api.Usage, error) {
	return answer[api.Usage](h.hostile, nil)
}

// HostileKernels is a daemon.Kernels.
type HostileKernels struct{ hostileInventory[api.Kernel] }

// Pull returns a kernel.
func (h HostileKernels) Pull(_ context.Context, _ api.PullKernel, progress api.ProgressFunc) (api.Kernel, error) {
	return answer[api.Kernel](h.hostile, progress)
}

// Import returns a kernel.
func (h HostileKernels) Import(_ context.Context, _ api.ImportKernel, progress api.ProgressFunc) (api.Kernel, error) {
	return answer[api.Kernel](h.hostile, progress)
}
