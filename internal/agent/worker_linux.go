package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"banger/internal/agent/sshd"
	"banger/internal/guest"
)

// work serves the host from within the root filesystem.
func work(log *slog.Logger, version string) error {
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
		log: log, version: version, systemd: r.Systemd, init: r.Init,
		readiness: watchBoot(r.Systemd, os.NewFile(notifyFD, "notify"), log),
	}
	if err := transports.serve(guest.PortControl, w.serve); err != nil {
		return err
	}
	server := sshd.New(sshd.Config{
		HostKey: signer, AuthorizedKeys: keys, Env: r.Env, SFTPServer: []string{selfExe, partSFTP}, Log: log,
	})
	listeners, err := transports.listen(guest.PortSSH)
	if err != nil {
		return err
	}
	transports.complete()
	ended := make(chan error)
	for _, l := range listeners {
		go func() { ended <- server.Serve(context.Background(), l) }()
	}
	return fmt.Errorf("serve ssh: %w", <-ended)
}
