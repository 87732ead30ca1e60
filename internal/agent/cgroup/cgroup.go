// Package cgroup gives what the agent starts control groups of its own, beside
// those of the guest's init system.
//
// Processes that are nowhere else when systemd starts become part of its own
// unit, init.scope. When the kernel ends one of them for want of memory, systemd
// stops the whole unit, which takes the agent with it. So the agent makes a tree
// next to systemd's before that starts; systemd leaves alone what it didn't make
// (https://systemd.io/CGROUP_DELEGATION/).
//
//	banger            memory.min: what the agent keeps
//	├─ agent          supervisor and worker
//	└─ commands       memory.max: all but a reserve for the system
//	   ├─ 512-1       a command and all that it starts
//	   └─ …
//
// The groups of single commands have no controllers, so that an ended one costs
// nothing: the kernel keeps a memory group for as long as a page of the cache is
// on its account.
package cgroup

// Names in the tree.
const (
	top      = "banger"
	agent    = "agent"
	commands = "commands"
)

const (
	// agentMemory is kept for the agent, in bytes: it may not have to wait for
	// its memory to come back while others take all that there is.
	agentMemory = 48 << 20
	// The reserve that commands can't take: so much, in bytes, and a share of the
	// memory. It is what kernel, systemd and Docker take. Without it, a command
	// that takes all would first drive the code of every other program out of the
	// page cache, and the guest would stand still for minutes before the kernel
	// ends anything.
	reserveBase  = 64 << 20
	reserveShare = 16
	reserveMost  = 512 << 20
)

// commandsMemory is what all commands together may take of the guest's memory,
// in bytes.
func commandsMemory(total uint64) uint64 {
	return total - min(reserveBase+total/reserveShare, reserveMost, total/2)
}
