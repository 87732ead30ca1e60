package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// peerKey is the context key of a connection's peer.
type peerKey struct{}

// peer is who is at the other end of a connection, or why that isn't known.
type peer struct {
	uid uint32
	err error
}

// withPeer is an http.Server's ConnContext: it asks the kernel once per
// connection who has connected.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerUID(conn)
	return context.WithValue(ctx, peerKey{}, peer{uid, err})
}

// peerUID returns the user that connected, by SO_PEERCRED, unix(7).
func peerUID(conn net.Conn) (uint32, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("identify the peer: %T is not a unix socket", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("identify the peer: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return 0, fmt.Errorf("identify the peer: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("identify the peer: %w", credErr)
	}
	return cred.Uid, nil
}

// checkPeer lets in the user own and root.
func checkPeer(p peer, own uint32) error {
	if p.err != nil {
		return p.err
	}
	if p.uid != own && p.uid != 0 {
		return api.Errorf(api.CodeInvalid, "user %d may not use the bangerd of user %d", p.uid, own)
	}
	return nil
}

// admit refuses requests that don't come from this user's banger of this
// version.
func (s *Server) admit(r *http.Request) error {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		p.err = api.Errorf(api.CodeInternal, "the peer of this connection was not identified")
	}
	if err := checkPeer(p, s.uid); err != nil {
		return err
	}
	// No browser has business here; a page that reaches this socket through
	// some proxy would send one of these.
	if r.Header.Get("Origin") != "" || r.Header.Get("Referer") != "" {
		return api.Errorf(api.CodeInvalid, "bangerd refuses requests of web pages")
	}
	return s.checkVersion(r)
}

// checkVersion refuses another version's banger, except where it asks for the
// version or a shutdown: those two calls are how it gets out of the mismatch.
// A program that sends no version takes its own risk.
func (s *Server) checkVersion(r *http.Request) error {
	theirs := r.Header.Get(api.VersionHeader)
	if theirs == "" || theirs == s.version {
		return nil
	}
	if r.URL.Path == api.GetVersion.Path || r.URL.Path == api.Shutdown.Path {
		return nil
	}
	return api.Errorf(api.CodeVersion, "banger is version %s, but the running bangerd is version %s", theirs, s.version).
		WithHint("run: banger daemon restart (running VMs go on)")
}
