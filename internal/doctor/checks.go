package doctor

import (
	"errors"
	"fmt"
	"io/fs"
)

const (
	gib = 1 << 30
	// The default image, its kernel and a first VM take about 2 GiB; building
	// them takes about as much again.
	spaceNeeded, spaceWanted = 3 * gib, 10 * gib
)

// KVMDevice is the name of the finding about the device of KVM.
const KVMDevice = "/dev/kvm"

// checkKVM looks at the device only. Whether KVM can run a stock kernel is
// found out by bangerd.
func checkKVM(sys System) Finding {
	f := Finding{Name: KVMDevice, Status: OK, Detail: "can be opened"}
	err := sys.Open(KVMDevice)
	if err == nil {
		return f
	}
	f.Status = Warn
	f.Cost = "VMs run by software emulation, several times slower"
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Detail = "this user may not open it"
		f.Mend = []Fix{{Argv: []string{"usermod", "-aG", "kvm", sys.User}}}
		f.Advice = "log in again afterwards"
	case errors.Is(err, fs.ErrNotExist):
		f.Detail = "there is none"
		f.Advice = "turn virtualization on in the firmware setup; in a VM, turn on nested virtualization on its host"
	default:
		f.Detail = err.Error()
	}
	return f
}

func checkSpace(sys System, dir string) Finding {
	f := Finding{Name: "disk space", Status: OK}
	free, err := sys.Free(dir)
	if err != nil {
		f.Status, f.Detail = Warn, err.Error()
		return f
	}
	f.Detail = fmt.Sprintf("%.1f GiB free for %s", float64(free)/gib, dir)
	switch {
	case free < spaceNeeded:
		f.Status, f.Cost = Fail, fmt.Sprintf("the default image and a VM need %d GiB", spaceNeeded/gib)
	case free < spaceWanted:
		f.Status, f.Cost = Warn, "the disks of a few VMs may fill it"
	}
	return f
}
