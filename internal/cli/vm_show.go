package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/progress"
)

func newVMShow(e *env) *cobra.Command {
	help := helpText{short: "Show all about a VM", example: "  banger vm show web --json | jq -r .ip"}
	return newShow(e, "VM", help, completeVMs(e, 1), api.GetVM, describeVM)
}

// describeVM returns a row for each thing that is known of a VM.
func describeVM(vm api.VM) [][]string {
	var d description
	state := string(vm.State)
	if vm.Reason != "" {
		state += " (" + vm.Reason + ")"
	}
	d.row("Name", vm.Name)
	d.row("ID", vm.ID)
	d.row("State", state)
	d.row("Image", vm.Image)
	d.row("Kernel", vm.Kernel)
	driver := vm.Driver
	if vm.Accel != "" {
		driver += ", " + vm.Accel
	}
	d.row("Driver", driver)
	d.row("VCPUs", fmt.Sprint(vm.VCPUs))
	d.row("Memory", progress.Bytes(vm.MemoryMiB<<20))
	d.row("Disk", progress.Bytes(vm.DiskBytes))
	if vm.SwapBytes > 0 {
		d.row("Swap", progress.Bytes(vm.SwapBytes))
	}
	d.row("IP", vm.IP)
	d.row("MAC", vm.MAC)
	if vm.Nested {
		d.row("Nested", "yes")
	}
	if vm.RealRoot {
		d.row("Real root", "yes")
	}
	if vm.PID != 0 {
		d.row("PID", fmt.Sprint(vm.PID))
	}
	if vm.Workspace != nil {
		d.row("Workspace", vm.Workspace.HostPath+" → "+vm.Workspace.GuestPath)
	}
	for _, c := range vm.Copies {
		place := c.HostPath + " → " + c.GuestPath
		if c.ReadOnly {
			place += " (read-only)"
		}
		d.row("Copy", place)
	}
	for _, key := range slices.Sorted(maps.Keys(vm.Env)) {
		d.row("Env", key+"="+vm.Env[key])
	}
	ports := make([]string, len(vm.HostPorts))
	for i, port := range vm.HostPorts {
		ports[i] = fmt.Sprint(port)
	}
	d.row("Host ports", strings.Join(ports, " "))
	d.row("Created", vm.CreatedAt.Local().Format(time.DateTime))
	if vm.StartedAt != nil {
		d.row("Started", vm.StartedAt.Local().Format(time.DateTime))
	}
	return d
}
