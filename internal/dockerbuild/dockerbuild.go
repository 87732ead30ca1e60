// Package dockerbuild builds Dockerfiles with the Docker of a VM, so that the
// host needs none and what a build runs can't reach the host.
package dockerbuild

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
	"banger/internal/session"
)

// Where things are in the VM, and what the built image is called there.
const (
	guestDir     = "/root/build"
	guestContext = guestDir + "/context"
	guestFile    = guestDir + "/Dockerfile"
	guestTag     = "banger-build"
)

// VMs is what a build needs of the VM service.
type VMs interface {
	Create(ctx context.Context, req api.CreateVM, progress api.ProgressFunc) (api.VM, error)
	Delete(ctx context.Context, ref string, req api.DeleteVM) error
	Access(ctx context.Context, ref string) (api.Access, error)
	Dial(ctx context.Context, ref string, port uint32) (guest.Conn, error)
}

// Builder builds Dockerfiles.
type Builder struct {
	VMs   VMs
	Image string // with Docker, for the VMs that build
}

// BuildDockerfile copies the Dockerfile and its context into a VM of its own,
// runs docker build there, writes the result to w as docker save does, and
// deletes the VM. A build that fails is an api.CodeGuest error with the last
// lines of Docker's output.
func (b *Builder) BuildDockerfile(ctx context.Context, req api.BuildImage, w io.Writer, progress api.ProgressFunc) (err error) {
	if err := checkSyntax(req.File); err != nil {
		return err
	}
	ignore, err := readIgnore(req)
	if err != nil {
		return err
	}
	vm, err := b.VMs.Create(ctx, api.CreateVM{Image: b.Image, Temporary: true}, progress)
	if err != nil {
		return fmt.Errorf("start a VM to build in: %w", err)
	}
	defer func() {
		deleteErr := b.VMs.Delete(context.WithoutCancel(ctx), vm.ID, api.DeleteVM{Force: true})
		if err == nil && deleteErr != nil {
			err = fmt.Errorf("delete the VM that built: %w", deleteErr)
		}
	}()
	if err := b.copyIn(ctx, vm, req, ignore, progress); err != nil {
		return err
	}
	if err := b.run(ctx, vm, "build", buildCommand(req), nil, progress); err != nil {
		return err
	}
	// Docker keeps what it saves on the VM's disk; an eighth is for the headers
	// of the tar.
	limited := &guest.LimitWriter{
		W: w, Left: vm.DiskBytes + vm.DiskBytes/8,
		Over: api.Errorf(api.CodeGuest, "the VM sends a larger image than its disk of %d MiB can hold", vm.DiskBytes>>20),
	}
	return b.run(ctx, vm, "save", []string{"docker", "save", guestTag}, limited, progress)
}

// copyIn copies what Docker reads.
func (b *Builder) copyIn(ctx context.Context, vm api.VM, req api.BuildImage, ignore *ignorer, progress api.ProgressFunc) error {
	client := guest.NewClient(func(ctx context.Context, port uint32) (guest.Conn, error) { return b.VMs.Dial(ctx, vm.ID, port) })
	step := api.Progress{Phase: "docker-context", Title: "copying the build's context"}
	progress.Report(step)
	for _, part := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{guestDir, func(w io.Writer) error { return writeDockerfile(w, req.File) }},
		{guestContext, func(w io.Writer) error { return writeContext(w, req.Context, ignore) }},
	} {
		r, w := io.Pipe()
		guard.Go("pack a build's context", func() {
			w.CloseWithError(guard.Run("pack a build's context", func() error { return part.write(w) }))
		})
		err := client.Extract(ctx, guest.ExtractParams{Path: part.path}, r)
		_ = r.CloseWithError(context.Canceled) // ends the writer if the guest gave up
		if err != nil {
			return fmt.Errorf("copy the build's context into the VM: %w", err)
		}
	}
	step.Finished = true
	progress.Report(step)
	return nil
}

// buildCommand returns docker's command line. Debian 12's Docker has BuildKit,
// but uses it only if told to.
func buildCommand(req api.BuildImage) []string {
	command := []string{"env", "DOCKER_BUILDKIT=1", "docker", "build", "--progress", "plain", "--tag", guestTag, "--file", guestFile}
	if req.Target != "" {
		command = append(command, "--target", req.Target)
	}
	for _, name := range slices.Sorted(maps.Keys(req.Args)) {
		command = append(command, "--build-arg", name+"="+req.Args[name])
	}
	return append(command, guestContext)
}

// run runs a command of Docker's in the VM. Its output goes to w or, if w is nil,
// to progress.
func (b *Builder) run(ctx context.Context, vm api.VM, verb string, command []string, w io.Writer, progress api.ProgressFunc) error {
	access, err := b.VMs.Access(ctx, vm.ID)
	if err != nil {
		return err
	}
	step := api.Progress{Phase: "docker-" + verb, Title: "running docker " + verb}
	progress.Report(step)
	said := newTail(func(line string) {
		step.Detail = line
		progress.Report(step)
	})
	out := w
	if out == nil {
		out = said
	}
	result, err := session.Run(ctx, session.Options{
		Dial:    func(ctx context.Context) (net.Conn, error) { return b.VMs.Dial(ctx, vm.ID, guest.PortSSH) },
		Access:  access,
		Command: command,
		Stdout:  out,
		Stderr:  said,
	})
	step.Finished, step.Detail = true, ""
	progress.Report(step)
	switch {
	case err != nil:
		return fmt.Errorf("run docker %s in the VM: %w", verb, err)
	case result.ExitCode != 0:
		return api.Errorf(api.CodeGuest, "docker %s failed with status %d: %s", verb, result.ExitCode, guest.Excerpt(said.last()))
	}
	return nil
}
