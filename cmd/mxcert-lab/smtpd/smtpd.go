// Package smtpd is a small SMTP server (RFC 5321) with STARTTLS (RFC 3207) that reads its certificate the way mail
// servers do, and misbehaves on demand.
//
// Like Exim it either opens the files at each connection, or loads them once and again at a reload, which a change in the
// files' directories can start. If files are missing or do not match, greeting and EHLO still work, and the answer to STARTTLS
// is 454. Of several pairs it serves the first that the client can verify. It records the sessions.
//
// Not supported: mail. The server records MAIL and refuses it.
package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pair names the files of one certificate chain with its key. PrivateKey is "" when Certificate holds both. Staple is a file with an OCSP
// response; if it is "", or there is no such file, none is sent.
type Pair struct {
	Certificate string
	PrivateKey  string
	Staple      string
}

// Options are the properties of a server.
type Options struct {
	Listen   string // address:port; default a free port of 127.0.0.1
	Hostname string // in greeting and EHLO; default mx.example.org
	Pairs    []Pair // one for each key type, the preferred (ECDSA) first
	Preload  bool   // load the files at start and at Reload only, instead of at each connection

	// Watch, with Preload, reloads this long after the first change in a directory of the files. 0 is never. Exim needs 4
	// to 5 seconds.
	Watch time.Duration
}

// Server is a running SMTP server.
type Server struct {
	opts     Options
	listener net.Listener
	faults   atomic.Pointer[Faults]
	loaded   atomic.Pointer[credentials] // in Preload mode
	reloads  atomic.Int64
	closed   chan struct{}
	anyPort  bool     // the system has chosen the port
	refuses  *os.File // keeps that port when the server is closed
	stop     context.CancelFunc
	tasks    sync.WaitGroup

	mu       sync.Mutex
	open     map[net.Conn]bool
	sessions []*Session
	count    int
}

// Start starts a server. The certificate files need not exist yet.
func Start(opts Options) (*Server, error) {
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	if opts.Hostname == "" {
		opts.Hostname = "mx.example.org"
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{opts: opts, closed: make(chan struct{}), stop: stop, open: map[net.Conn]bool{}}
	s.SetFaults(Faults{})
	if opts.Preload {
		_ = s.Reload() // what is missing now may come later, and STARTTLS says so until then
		s.reloads.Store(0)
		if err := s.watch(ctx); err != nil {
			stop()
			return nil, fmt.Errorf("start the SMTP server: %w", err)
		}
	}
	var config net.ListenConfig
	s.anyPort = strings.HasSuffix(opts.Listen, ":0")
	if s.anyPort {
		config.Control = shareable // a second server at a given port is a mistake, and fails
	}
	listener, err := config.Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		stop()
		return nil, fmt.Errorf("start the SMTP server: %w", err)
	}
	s.listener = listener
	s.tasks.Go(s.accept)
	return s, nil
}

// Address is where the server listens, "address:port".
func (s *Server) Address() string { return s.listener.Addr().String() }

// Reload loads the files again in Preload mode, as SIGHUP does. When they cannot be loaded it says why, and STARTTLS is
// refused until the next Reload.
func (s *Server) Reload() error {
	s.reloads.Add(1)
	loaded := load(s.opts.Pairs)
	s.loaded.Store(loaded)
	return loaded.err
}

// Reloads counts the calls of Reload and the reloads that changes started.
func (s *Server) Reloads() int { return int(s.reloads.Load()) }

// credentials are what a connection is to serve now.
func (s *Server) credentials() *credentials {
	if s.opts.Preload {
		return s.loaded.Load()
	}
	return load(s.opts.Pairs)
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.enter(conn) {
			_ = conn.Close()
			return
		}
		s.tasks.Go(func() {
			defer s.leave(conn)
			s.serve(conn)
		})
	}
}

func (s *Server) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *Server) leave(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

// Close ends the listener and all sessions, and waits for them. Its address refuses connections from now on.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.open == nil {
		s.mu.Unlock()
		return nil
	}
	open := s.open
	s.open = nil
	for conn := range open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	close(s.closed)
	s.stop()
	var err error
	if s.anyPort {
		s.refuses, err = keepClosed(s.listener.Addr())
	}
	err = errors.Join(err, s.listener.Close())
	s.tasks.Wait()
	return err
}
