package cli

import (
	"context"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

// machineOptions are the flags that describe a new VM.
type machineOptions struct {
	name   string
	image  string
	vcpus  int
	memory sizeFlag
	disk   sizeFlag
	swap   sizeFlag
	nested bool
	real   bool
	env    envFlag
	ports  []int
	cas    []string
	proxy  bool
	with   []string
	timing bool
}

func (o *machineOptions) addFlags(cmd *cobra.Command, e *env) {
	o.memory.bare, o.memory.least = 1<<20, 1<<20
	o.disk.least, o.swap.least = 1<<20, 1<<20
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the VM (default: made up)")
	f.StringVar(&o.image, "image", "", "image to boot (default: the configured one)")
	f.IntVar(&o.vcpus, "vcpus", 0, "number of virtual CPUs (default: the configured one)")
	f.Var(&o.memory, "memory", "memory, such as 2G or 2048; MiB if there is no unit (default: the configured one)")
	f.Var(&o.disk, "disk", "size of the disk, such as 20G; it takes space only as it is used (default: the configured one)")
	f.Var(&o.swap, "swap", "room for memory that isn't in use, such as 4G; it takes space only as it is used (default: none)")
	f.BoolVar(&o.nested, "nested", false, "give it a processor that can run VMs itself (QEMU only)")
	f.BoolVar(&o.real, "real-root", false, "copy the image to the disk at the first start, for what doesn't work on an overlay")
	f.VarP(&o.env, "env", "e", "set a variable in every session and command; without =VALUE, the value it has here (repeatable)")
	f.IntSliceVar(&o.ports, "host-port", nil, "let it connect to this TCP `PORT` of the host's localhost, as host.banger.internal (repeatable)")
	f.StringArrayVar(&o.cas, "ca-certs", nil, "let it trust the authorities in a `FILE` of PEM, or those that were added to this host's store (repeatable)")
	f.Lookup("ca-certs").NoOptDefVal = hostCAs
	f.BoolVar(&o.proxy, "proxy", false, "let it use the proxies that http_proxy and the like name here")
	addWith(cmd, f, &o.with)
	f.BoolVar(&o.timing, "timing", false, "print what each phase took")
	for _, name := range []string{"name", "vcpus", "memory", "disk", "swap", "env", "host-port"} {
		completeFlag(cmd, name, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp))
	}
	completeFlag(cmd, "image", completeNames(e, -1, imageNames, catalogImageNames))
}

// request returns the request for the VM.
func (o *machineOptions) request(cmd *cobra.Command) (api.CreateVM, error) {
	if cmd.Flags().Changed("vcpus") && o.vcpus < 1 {
		return api.CreateVM{}, api.Errorf(api.CodeInvalid, "--vcpus must be at least 1")
	}
	if o.memory.bytes%(1<<20) != 0 {
		return api.CreateVM{}, api.Errorf(api.CodeInvalid, "--memory must be a whole number of MiB")
	}
	if err := o.useProxy(); err != nil {
		return api.CreateVM{}, err
	}
	cas, err := readCACerts(o.cas, hostCADirs)
	if err != nil {
		return api.CreateVM{}, err
	}
	ports := make([]uint16, len(o.ports))
	for i, port := range o.ports {
		if port < 1 || port > math.MaxUint16 {
			return api.CreateVM{}, api.Errorf(api.CodeInvalid, "--host-port %d: a port is a number from 1 to %d", port, math.MaxUint16)
		}
		ports[i] = uint16(port)
	}
	copies, err := parseWith(o.with)
	if err != nil {
		return api.CreateVM{}, err
	}
	return api.CreateVM{
		Name:  o.name,
		Image: o.image,
		Shape: api.Shape{
			VCPUs:     o.vcpus,
			MemoryMiB: o.memory.bytes >> 20,
			DiskBytes: o.disk.bytes,
			SwapBytes: o.swap.bytes,
			Nested:    o.nested,
		},
		RealRoot:  o.real,
		Env:       o.env.values,
		CACerts:   cas,
		Copies:    copies,
		HostPorts: slices.Compact(slices.Sorted(slices.Values(ports))),
	}, nil
}

// useProxy adds what --proxy stands for. A variable of --env counts for more.
func (o *machineOptions) useProxy() error {
	if !o.proxy {
		return nil
	}
	env, ports, err := proxyEnv(os.LookupEnv)
	if err != nil {
		return err
	}
	maps.Copy(env, o.env.values)
	o.env.values = env
	o.ports = append(o.ports, ports...)
	return nil
}

func newVMCreate(e *env) *cobra.Command {
	var o machineOptions
	var noStart bool
	var out outcome
	cmd := &cobra.Command{
		Use:   "create [flags]",
		Short: "Create a VM and start it",
		Long: `Create a VM, start it, and wait until it is ready. Prints its name.

With --with ./lib:/root/lib a directory of this host is copied into it, as
"banger vm run --help" tells.

Sizes are given in powers of 1024: 512M, 2G, 1.5GiB.`,
		Example: `  banger vm create --name web --memory 4G
  banger vm create --name web --with ./site:/srv/site
  vm=$(banger vm create --no-start)`,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return api.Errorf(api.CodeInvalid, "%s takes no arguments", cmd.CommandPath()).
					WithHint("a name is given like this: %s --name %s", cmd.CommandPath(), shellQuote(given[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := o.request(cmd)
			if err != nil {
				return err
			}
			req.NoStart = noStart
			return runVMCreate(cmd.Context(), e, req, o.timing, out)
		},
	}
	o.addFlags(cmd, e)
	cmd.Flags().BoolVar(&noStart, "no-start", false, "only make it; start it later with: banger vm start")
	out.addFlags(e, cmd, "the VM", "its name")
	return cmd
}

func runVMCreate(ctx context.Context, e *env, req api.CreateVM, timing bool, out outcome) error {
	vm, err := createVM(ctx, e, req, timing)
	if err != nil {
		return err
	}
	return out.printMade(e, vm.Name, vm)
}

// createVM creates a VM with progress, and says where to look if its guest
// was waited for in vain.
func createVM(ctx context.Context, e *env, req api.CreateVM, timing bool) (api.VM, error) {
	vm, err := stream(ctx, e, api.CreateVMRoute, req)
	if err != nil {
		return vm, err
	}
	if timing {
		printTiming(e, vm.Timing)
	}
	tellNotes(e, vm)
	return vm, nil
}

// printTiming tells what each phase took.
func printTiming(e *env, phases []api.PhaseTiming) {
	rows := make([][]string, 0, len(phases)+1)
	var total time.Duration
	for _, p := range phases {
		d := time.Duration(p.Millis) * time.Millisecond
		total += d
		rows = append(rows, []string{"  " + p.Phase, progress.Duration(d)})
	}
	rows = append(rows, []string{"  total", progress.Duration(total)})
	e.notice("timing:")
	// Like every notice, it has no other way to fail than a closed stderr.
	_ = printTable(e.stderr, rows)
}
