package session

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// forwardSignals passes signals on until the command has ended.
func (r *run) forwardSignals(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig, open := <-r.options.Signals:
			if !open {
				return
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
