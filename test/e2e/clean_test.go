//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/network"
)

// checkClean fails the test if, once it and its clean-ups are through, the host
// has anything that it didn't have before: VMs, files of VMs, sockets, taps,
// bridges, nft rules, mounts, loop devices, control groups, VMMs.
func (h *host) checkClean(t *testing.T) {
	t.Helper()
	before := h.remains(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, h.remains(t)); diff != "" {
			t.Errorf("the test left something behind (-before +after):\n%s", diff)
		}
	})
}

// remains lists what VMs consist of on the host.
func (h *host) remains(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		filepath.Join(h.home, "state/vms/*"), filepath.Join(h.home, "run/vm/*"),
		filepath.Join(h.home, "share/images/.*"), filepath.Join(h.home, "share/kernels/.*"),
		"/sys/fs/cgroup/banger/*/cgroup.procs", // of jailed VMs
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	found = append(found, h.processes(t)...)
	found = append(found, mountsBelow(t, h.home)...)
	found = append(found, h.networkState(t)...)
	loops, err := exec.Command("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").Output()
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, strings.Fields(string(loops))...)
	slices.Sort(found)
	return found
}

// processes lists those of this host's that are not part of an idle bangerd:
// VMMs and build tools.
func (h *host) processes(t *testing.T) []string {
	t.Helper()
	var found []string
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cmdlines {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		argv := strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
		name := filepath.Base(argv[0])
		if strings.Contains(string(data), h.home) && name != "bangerd" && name != "banger" {
			found = append(found, fmt.Sprintf("process %s", strings.Join(argv, " ")))
		}
	}
	return found
}

func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+line)
		}
	}
	return found
}

// networkState lists bridges, taps and nft tables in the namespace that
// bangerd works in. Without a bangerd there is none for a plain user.
func (h *host) networkState(t *testing.T) []string {
	t.Helper()
	enter := h.enterNetwork(t)
	if enter == nil {
		return nil
	}
	var found []string
	for _, query := range []string{"ip -brief link show type bridge", "ip -brief link show type tun", "nft list tables"} {
		argv := append(slices.Clone(enter), strings.Fields(query)...)
		out, err := exec.CommandContext(context.Background(), argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", query, err, out)
		}
		for line := range strings.Lines(string(out)) {
			// pasta's own interface and the rules for it are part of the
			// namespace. It is named after the host's.
			name, _, _ := strings.Cut(line, " ")
			_, err := net.InterfaceByName(name)
			if err == nil || strings.TrimSpace(line) == "table inet "+network.RenderBlock(nil).Table {
				continue
			}
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// enterNetwork returns the command prefix that enters the network namespace in
// which this host's bangerd works, or nil if there is none.
func (h *host) enterNetwork(t *testing.T) []string {
	t.Helper()
	if h.netns != "" && h.uid == 0 {
		return []string{"nsenter", "--net=/run/netns/" + h.netns, "--"}
	}
	data, err := os.ReadFile(filepath.Join(h.home, "run/namespace.json"))
	if err != nil {
		return nil // no bangerd has needed one yet
	}
	var state struct {
		Holder struct {
			PID int `json:"pid"`
		} `json:"holder"`
	}
	if err := json.Unmarshal(data, &state); err != nil || state.Holder.PID == 0 {
		t.Fatalf("read the namespace holder from %q: %v", data, err)
	}
	return []string{"nsenter", "--user", "--net", "--target", fmt.Sprint(state.Holder.PID), "--"}
}
