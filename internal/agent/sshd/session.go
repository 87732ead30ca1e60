package sshd

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger/internal/terminfo"
)

// session is a channel on which one command, shell or subsystem runs
// (RFC 4254, section 6).
type session struct {
	conn      *connection
	channel   ssh.Channel
	env       environment // what the client has set
	term      string      // terminal type; "" before a pty-req
	terminfo  []byte      // its description, if the client has sent one
	note      string      // a line for the client's user; "" for none
	terminal  *terminal   // nil without one
	keySocket string      // of the forwarded SSH agent; "" without one
	running   *running    // nil before the start
}

// serveSession serves the channel until it is closed, and then hangs up what
// still runs in it.
func (c *connection) serveSession(ctx context.Context, nc ssh.NewChannel) error {
	channel, requests, err := nc.Accept()
	if err != nil {
		return fmt.Errorf("accept a session: %w", err)
	}
	s := &session{conn: c, channel: channel, env: make(environment)}
	for req := range requests {
		s.handle(ctx, req)
	}
	if s.running != nil {
		s.running.hangUp()
	} else if s.terminal != nil {
		s.terminal.close()
	}
	return nil
}

// handle does what the client asks for and answers.
func (s *session) handle(ctx context.Context, req *ssh.Request) {
	var err error
	switch req.Type {
	case "exec", "shell", "subsystem":
		err = s.start(ctx, req)
	case "env":
		err = s.setEnv(req.Payload)
	case "pty-req":
		err = s.openTerminal(req.Payload)
	case "window-change":
		err = s.resize(req.Payload)
	case "signal":
		err = s.signal(req.Payload)
	case "auth-agent-req@openssh.com":
		s.keySocket, err = s.conn.forwardAgent()
	default:
		answer(req, false)
		return
	}
	if err != nil {
		s.conn.log.Warn("SSH request", "type", req.Type, "error", err)
		answer(req, false)
		return
	}
	answer(req, true)
	if s.running != nil {
		// The answer must come before any output.
		s.running.release()
	}
}

// start runs what the request names.
func (s *session) start(ctx context.Context, req *ssh.Request) error {
	if s.running != nil {
		return fmt.Errorf("a command runs already")
	}
	spec, failure, err := s.command(req)
	if err != nil {
		return err
	}
	spec.user, spec.terminal, spec.groups = s.conn.user, s.terminal, s.conn.server.config.Groups
	s.running = startRunning(s.conn, s.channel, spec, failure)
	s.running.note = s.note
	s.conn.work.Go(func() { s.running.serve(ctx) })
	return nil
}

// command says what to start for a request, or, as failure, why the guest can't
// start it. err is for requests that are wrong in themselves.
func (s *session) command(req *ssh.Request) (spec processSpec, failure, err error) {
	shell, env := s.conn.user.shell, s.environment()
	name := filepath.Base(shell)
	if req.Type == "shell" {
		if !isProgram(shell) {
			return spec, errNoShell, nil
		}
		// The dash makes it a login shell.
		return processSpec{path: shell, argv: []string{"-" + name}, env: env.list()}, nil, nil
	}
	msg, err := parse[struct{ Text string }](req.Payload)
	server := s.conn.server.config.SFTPServer
	switch {
	case err != nil:
		return spec, nil, err
	case req.Type == "exec" && !isProgram(shell):
		spec, failure = plainSpec(msg.Text, s.conn.user.home, env)
		return spec, failure, nil
	case req.Type == "exec":
		return processSpec{path: shell, argv: []string{name, "-c", msg.Text}, env: env.list()}, nil, nil
	case msg.Text != "sftp" || len(server) == 0:
		return spec, nil, fmt.Errorf("no subsystem %q", msg.Text)
	}
	return processSpec{path: server[0], argv: server, env: env.list()}, nil, nil
}

// environment puts together what the command gets.
func (s *session) environment() environment {
	env := loginEnvironment(s.conn.user, loginFiles(), s.conn.server.config.Env)
	if _, chosen := s.env["TERM"]; s.terminal != nil && s.term != "" && !chosen {
		env["TERM"], s.note = s.terminalType(env)
	}
	withoutUnknownLocales(s.env, localeDir)
	maps.Copy(env, s.env)
	if s.terminal != nil {
		env["SSH_TTY"] = s.terminal.name()
	}
	if s.keySocket != "" {
		env["SSH_AUTH_SOCK"] = s.keySocket
	}
	return env
}

func (s *session) setEnv(payload []byte) error {
	msg, err := parse[struct{ Name, Value string }](payload)
	if err != nil {
		return err
	}
	if !validVariable(msg.Name, msg.Value) {
		return fmt.Errorf("no process can have a variable named %q", msg.Name)
	}
	if msg.Name == terminfo.Variable {
		s.terminfo, err = terminfo.Decode(msg.Value)
		return err
	}
	s.env[msg.Name] = msg.Value
	return nil
}

func (s *session) openTerminal(payload []byte) error {
	if s.terminal != nil || s.running != nil {
		return fmt.Errorf("too late for a terminal")
	}
	msg, err := parse[ptyRequest](payload)
	if err != nil {
		return err
	}
	s.terminal, err = openTerminal(msg, s.conn.user)
	s.term = msg.Term
	return err
}

func (s *session) resize(payload []byte) error {
	size, err := parse[windowSize](payload)
	if err != nil {
		return err
	}
	if s.terminal == nil {
		return fmt.Errorf("there is no terminal")
	}
	return s.terminal.resize(size)
}

func (s *session) signal(payload []byte) error {
	msg, err := parse[struct{ Name string }](payload)
	if err != nil {
		return err
	}
	sig := unix.SignalNum("SIG" + msg.Name)
	if sig == 0 || s.running == nil {
		return fmt.Errorf("no signal %q, or no command", msg.Name)
	}
	s.running.signal(sig)
	return nil
}

// exitMessage says how a process ended: the request and its payload.
func exitMessage(status syscall.WaitStatus) (request string, payload []byte) {
	if !status.Signaled() {
		return "exit-status", ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())})
	}
	name := unix.SignalName(status.Signal())
	if name == "" { // a real-time one
		return "exit-status", ssh.Marshal(struct{ Status uint32 }{128 + uint32(status.Signal())})
	}
	return "exit-signal", ssh.Marshal(struct {
		Signal            string
		CoreDumped        bool
		Message, Language string
	}{Signal: strings.TrimPrefix(name, "SIG"), CoreDumped: status.CoreDump()})
}
