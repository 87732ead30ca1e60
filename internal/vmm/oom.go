package vmm

import (
	"os"
	"strconv"
	"strings"
)

// OOMKills counts how many processes the host's kernel has killed since its
// boot because the host, or a control group, had run out of memory; 0 if it
// doesn't tell.
func OOMKills() uint64 {
	stat, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(stat)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// ByOOM is what is added to the tale of a VMM that was killed by SIGKILL, not
// by banger, while OOMKills has grown.
const ByOOM = ", probably by the kernel for want of memory"
