package firecracker

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm"
)

// logTail is how much of Firecracker's log is read for a message, in bytes.
const logTail = 16 << 10

// errEnded says that Firecracker ended before its API answered.
var errEnded = errors.New("it ended at once")

// failure is a fault of Firecracker's that users can do something about.
type failure struct {
	pattern *regexp.Regexp
	code    api.Code
	say     string // with the pattern's first group, if it has one
	hint    string
}

var failures = []failure{
	{
		regexp.MustCompile(`Resource busy \(os error 16\)\. Invalid TUN/TAP Backend provided by (.*)\. Check our`),
		api.CodeConflict, "the network interface %s is in use by another process", "",
	},
	{
		regexp.MustCompile(`Operation not permitted \(os error 1\)\. Invalid TUN/TAP Backend provided by (.*)\. Check our`),
		api.CodeHost, "no permission to use the network interface %s", "",
	},
	{
		regexp.MustCompile(`Couldn't open /dev/net/tun: (.*)`),
		api.CodeHost, "/dev/net/tun can't be opened: %s", "load the module and check the permissions: sudo modprobe tun; ls -l /dev/net/tun",
	},
	{
		regexp.MustCompile(`Error creating KVM object: Permission denied`),
		api.CodeHost, "no permission to use /dev/kvm", "join the group kvm and log in again: sudo usermod -aG kvm $USER",
	},
	{
		regexp.MustCompile(`Error creating KVM object: (.*?) ?Make sure`),
		api.CodeHost, "/dev/kvm can't be used: %s", "set driver = \"qemu\" in config.toml, or enable virtualisation in the firmware",
	},
	{
		regexp.MustCompile(`Missing KVM capabilities: (.*)`),
		api.CodeHost, "this host's KVM lacks what Firecracker needs (capabilities %s)", "set driver = \"qemu\" in config.toml",
	},
	{
		regexp.MustCompile(`Cannot allocate memory \(os error 12\)`),
		api.CodeHost, "the host has no memory for this VM", "use a smaller --memory, or stop other VMs",
	},
	{
		regexp.MustCompile(`Error manipulating the backing file: (.*)`),
		api.CodeHost, "a disk can't be opened: %s", "",
	},
	{
		regexp.MustCompile(`The kernel file cannot be opened: (.*)`),
		api.CodeHost, "the kernel can't be opened: %s", "",
	},
	{
		regexp.MustCompile(`The initrd file cannot be opened due to invalid path or invalid permissions\. (.*)`),
		api.CodeHost, "the initramfs can't be opened: %s", "",
	},
	{
		regexp.MustCompile(`Invalid Elf magic number`),
		api.CodeInvalid, "the kernel is no ELF file, and Firecracker boots nothing else", "extract the vmlinux: banger kernel import",
	},
}

// explain turns what went wrong while a VM was started into an error for the
// user.
func (m *Machine) explain(err error) error {
	var refusal *apiError
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, errEnded), m.endedMeanwhile():
		return m.explainEnd()
	default:
		return err
	}
	for _, f := range failures {
		match := f.pattern.FindStringSubmatch(refusal.fault)
		if match == nil {
			continue
		}
		msg := f.say
		if len(match) > 1 {
			msg = fmt.Sprintf(f.say, match[1])
		}
		return &api.Error{Code: f.code, Msg: msg, Hint: f.hint}
	}
	return api.Errorf(api.CodeHost, "%v", refusal).WithHint("all Firecracker said is in %s", m.logPath())
}

// endGrace is how long a Firecracker that has dropped its connection may take
// to end.
const endGrace = time.Second

func (m *Machine) endedMeanwhile() bool {
	select {
	case <-m.Process.Done():
		return true
	case <-time.After(endGrace):
		return false
	}
}

// explainEnd describes a Firecracker, or jailer, that ended before its API
// answered. What it prints goes where the console does.
func (m *Machine) explainEnd() error {
	said := strings.TrimSpace(vmm.LastBoot(vmm.ReadTail(m.Spec.Console, 2048)))
	said = said[strings.LastIndexByte(said, '\n')+1:]
	msg := "Firecracker ended at once: " + guest.Excerpt(m.describeEnd(m.End()))
	if !strings.Contains(msg, said) {
		msg += "; it said: " + guest.Excerpt(said)
	}
	return api.Errorf(api.CodeHost, "%s", msg)
}
