package cli

import (
	"slices"

	"banger/internal/api"
)

// The configuration of a VM's image says how its publisher wants programs to
// run, and commands follow it as they do with docker. A workspace goes before
// it: who brings a repository wants to work there, as root. Shells are root's
// login shells and follow none of it.

// commandDir is where a command starts that has no directory of its own; ""
// means the home directory.
func commandDir(vm api.VM) string {
	if vm.Workspace == nil && vm.Config != nil {
		return vm.Config.WorkingDir
	}
	return workspaceDir(vm)
}

// commandUser is whom a command runs as that has no user of its own; "" means
// root.
func commandUser(vm api.VM) string {
	if vm.Workspace == nil && vm.Config != nil {
		return vm.Config.User
	}
	return ""
}

// withEntrypoint puts the image's entrypoint before a command.
func withEntrypoint(vm api.VM, command []string) []string {
	if vm.Config == nil {
		return command
	}
	return slices.Concat(vm.Config.Entrypoint, command)
}
