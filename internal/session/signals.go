package session

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger/internal/guard"
)

// forwardSignals passes signals on until the command has ended.
func (r *run) forwardSignals(signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig, open := <-signals:
			if !open {
				return
			}
			if sig == syscall.SIGINT || sig == syscall.SIGTERM {
				guard.Go("see whether a guest gets a signal", func() { r.watcher.hurry(sig) })
			}
			if name := forwardedName(sig); name != "" {
				_ = r.session.Signal(ssh.Signal(name))
			}
		}
	}
}

// forwardedName returns the protocol's name (RFC 4254, 6.10) of a signal that
// makes sense to pass on; "" for the others.
func forwardedName(sig os.Signal) string {
	switch sig {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGKILL:
		return signalName(sig.(syscall.Signal))
	}
	return ""
}

// signalName is the name of a signal without SIG, as in the protocol.
func signalName(sig syscall.Signal) string {
	return strings.TrimPrefix(unix.SignalName(sig), "SIG")
}
