package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"banger/internal/agent/cgroup"
	"banger/internal/agent/openssh"
	"banger/internal/agent/sshd"
	"banger/internal/guest"
)

// work serves the host from within the root filesystem.
func work(log *slog.Logger, version string) error {
	groups := cgroup.Inherited(groupsFD)
	r, err := loadRuntime(os.NewFile(runtimeFD, "runtime"))
	if err != nil {
		return err
	}
	signer, err := r.signer()
	if err != nil {
		return err
	}
	keys, err := r.keys()
	if err != nil {
		return err
	}
	transports, err := openTransports(log)
	if err != nil {
		return err
	}
	w := &worker{
		log: log, version: version, systemd: r.Systemd, init: r.Init, groups: groups,
		readiness: watchBoot(r.Systemd, os.NewFile(bootedFD, "booted"), log),
		openRoot:  func() (*liveRoot, error) { return openLiveRoot(r) },
	}
	if err := transports.serve(guest.PortControl, w.serve); err != nil {
		return err
	}
	server := sshd.New(sshd.Config{
		HostKey: signer, AuthorizedKeys: keys, Env: r.Env, SFTPServer: []string{selfExe, partSFTP}, Groups: groups, Log: log,
	})
	listeners, err := transports.listen(guest.PortSSH)
	if err != nil {
		return err
	}
	transports.complete()
	if r.InstallSSH {
		go ensureOpenSSH(r, groups, w.readiness, log)
	}
	ended := make(chan error)
	for _, l := range listeners {
		go func() { ended <- server.Serve(context.Background(), l) }()
	}
	return fmt.Errorf("serve ssh: %w", <-ended)
}

// ensureOpenSSH sees to an SSH server of the image's own once the guest has
// booted. Whether it works matters to nobody else.
func ensureOpenSSH(r runtime, groups *cgroup.Tree, booted *readiness, log *slog.Logger) {
	<-booted.done
	if booted.err != nil {
		log.Warn("no OpenSSH server is installed, for the guest didn't boot well", "err", booted.err)
		return
	}
	g := openssh.Guest{Root: "/", Systemd: r.Systemd, Env: r.Env, Groups: groups, Console: os.Stderr}
	_ = g.Ensure(context.Background()) // it has told the console
}
