// Package daemon is bangerd's API: HTTP with JSON on a unix socket that only
// its user can reach. It decodes, calls one service and encodes; what the
// services do is not known here.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"banger/internal/api"
	"banger/internal/guard"
	"banger/internal/guest"
)

const (
	// readHeaderTimeout ends connections that never send a request.
	readHeaderTimeout = 10 * time.Second
	// shutdownGrace is how long requests that were cancelled by a shutdown
	// may take to undo their work and answer.
	shutdownGrace = 30 * time.Second
)

// errShutdown is the cause of the cancellation of every request at a shutdown.
var errShutdown = api.Errorf(api.CodeDaemon, "bangerd is shutting down").
	WithHint("call again; bangerd starts by itself")

// VMs is what the daemon needs of the VM service. A ref is a name or an id.
type VMs interface {
	List(ctx context.Context) ([]api.VM, error)
	Get(ctx context.Context, ref string) (api.VM, error)
	Create(ctx context.Context, req api.CreateVM, progress api.ProgressFunc) (api.VM, error)
	Start(ctx context.Context, ref string, req api.StartVM, progress api.ProgressFunc) (api.VM, error)
	Stop(ctx context.Context, ref string, req api.StopVM, progress api.ProgressFunc) (api.VM, error)
	Delete(ctx context.Context, ref string, req api.DeleteVM) error
	Access(ctx context.Context, ref string) (api.Access, error)
	// Dial connects to a port of the guest's agent.
	Dial(ctx context.Context, ref string, port uint32) (guest.Conn, error)
	// ConsoleLog returns the path of the console log, which may not exist.
	ConsoleLog(ctx context.Context, ref string) (path string, err error)
}

// Hosts is what the daemon needs to describe its machine.
type Hosts interface {
	Host(ctx context.Context) (api.Host, error)
	// Problems tells what is wrong at the moment, a sentence each. It is quick.
	Problems() []string
}

// Config is what a Server is made of. All fields are needed.
type Config struct {
	Version string // of this bangerd
	Log     *slog.Logger
	VMs     VMs
	Images  Images
	Kernels Kernels
	Usage   Usage
	Hosts   Hosts
}

// Server answers the API. Make one with New.
type Server struct {
	version string
	log     *slog.Logger
	vms     VMs
	images  Images
	kernels Kernels
	usage   Usage
	hosts   Hosts
	uid     uint32 // besides root, the only one who may call

	mux    *http.ServeMux
	routes []operation // for the API page, in order of registration

	stop     chan struct{} // closed by the shutdown route
	stopOnce sync.Once
	raw      sync.WaitGroup // connections that net/http gave away
}

// New returns a server that serves nothing yet.
func New(cfg Config) *Server {
	s := &Server{
		version: cfg.Version,
		log:     cfg.Log,
		vms:     cfg.VMs,
		images:  cfg.Images,
		kernels: cfg.Kernels,
		usage:   cfg.Usage,
		hosts:   cfg.Hosts,
		uid:     uint32(os.Getuid()),
		mux:     http.NewServeMux(),
		stop:    make(chan struct{}),
	}
	s.routeDaemon()
	s.routeVMs()
	s.routeImages()
	s.routeKernels()
	s.routeUsage()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, r, api.Errorf(api.CodeNotFound, "bangerd has no call %s %s", r.Method, r.URL.Path))
	})
	return s
}

// Serve answers on l until ctx ends or the shutdown route is called. Requests
// in progress are then cancelled, and answered, before it returns nil. It
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	srv := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	served := guard.Start("serve the API", func() error { return srv.Serve(l) })

	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	case <-s.stop:
	}
	s.log.Info("shutting down")
	cancel(errShutdown)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer done()
	if err := srv.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("finish requests: %w", err), srv.Close())
	}
	s.raw.Wait() // base is cancelled, so they end by themselves
	return nil
}

// ServeHTTP answers one request of a peer that ConnContext has identified.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(api.VersionHeader, s.version)
	if err := s.admit(r); err != nil {
		s.writeError(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}
