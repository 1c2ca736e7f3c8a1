package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"
)

const (
	// retry is how long to wait after the address could not be listened on, or the web configuration was bad.
	retry = time.Minute
	// mostConnections and mostScrapes limit what clients can make the program hold. Scrapes of all metrics share what they send.
	mostConnections = 32
	mostScrapes     = 4
	// goodbye limits how long a server that ends waits for its running requests.
	goodbye = time.Second
)

// Settings say where a [Server] listens, and with which web configuration file ("" for none).
type Settings struct{ Listen, WebConfig string }

// CheckWebConfig finds faults in a web configuration file of exporter-toolkit and in the files that it names.
func CheckWebConfig(file string) error { return web.Validate(file) }

// Server answers /metrics and /healthz. Make one with [NewServer]. Its methods may be called concurrently.
type Server struct {
	log     *slog.Logger
	handler http.Handler

	mu       sync.Mutex
	settings Settings
	running  *running // nil if it does not listen
	problem  string   // that was logged last
}

// running is an HTTP server that listens.
type running struct {
	http  *http.Server
	at    net.Addr
	ended chan struct{}
}

// NewServer returns a server that does not listen yet. health says what is wrong with the daemon; nil if all is well.
func NewServer(log *slog.Logger, s *Source, health func() error) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", scrape(s))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := health(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, err.Error()+"\n") // to a client that may have left
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	return &Server{log: log, handler: mux}
}

// scrape answers a scrape. A client that chooses metrics (name[]=…) has them encoded for itself.
func scrape(s *Source) http.Handler {
	chosen := promhttp.HandlerFor(s, promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes, DisableCompression: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			chosen.ServeHTTP(w, r)
			return
		}
		parts, err := s.Text()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		size := 0
		for _, part := range parts {
			size += len(part)
		}
		w.Header().Set("Content-Type", textType)
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for _, part := range parts {
			_, _ = w.Write(part) // to a client that may have left
		}
	})
}

// Apply makes the server listen as the settings say; without an address it stops. If that fails, Apply logs why, once, and returns when to
// call it again. The web configuration file itself may change without a call: it is read for each connection.
func (s *Server) Apply(settings Settings) (again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil && settings == s.settings && s.running.lives() {
		return time.Time{}
	}
	s.close()
	s.settings = settings
	if settings.Listen == "" {
		return time.Time{}
	}
	if err := s.start(); err != nil {
		if s.problem != err.Error() {
			s.log.Error("metrics cannot be served; mxcert tries again every minute", "address", settings.Listen, "error", err, "hint", hintOf(settings, err))
		}
		s.problem = err.Error()
		return time.Now().Add(retry)
	}
	s.log.Info("metrics are served", "address", s.running.at.String())
	s.problem = ""
	return time.Time{}
}

// hintOf says what to do if the server cannot listen.
func hintOf(settings Settings, err error) string {
	_, port, _ := net.SplitHostPort(settings.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there (ss -ltnp sport = :" + port + "): set metrics.listen to another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this host does not have the address: correct metrics.listen"
	case errors.Is(err, syscall.EACCES):
		return "the service has no right to listen on this port: set metrics.listen to one above 1023, such as 9743"
	case settings.WebConfig != "":
		return "correct " + settings.WebConfig + ", which the service must be able to read"
	}
	return "correct metrics.listen"
}

// Address is where the server listens; nil if it does not.
func (s *Server) Address() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	return s.running.at
}

// Handler answers the requests, without TLS and passwords.
func (s *Server) Handler() http.Handler { return s.handler }

// Close stops listening. Requests that run have a second to end.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

func (s *Server) close() {
	if s.running == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if s.running.http.Shutdown(ctx) != nil {
		_ = s.running.http.Close() // its connections end, too
	}
	<-s.running.ended
	s.running = nil
}

func (s *Server) start() error {
	if s.settings.WebConfig != "" {
		if err := web.Validate(s.settings.WebConfig); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.settings.Listen)
	if err != nil {
		return err
	}
	r := &running{at: listener.Addr(), ended: make(chan struct{}), http: &http.Server{Handler: s.handler, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}}
	file, none := s.settings.WebConfig, false
	flags := &web.FlagConfig{WebConfigFile: &file, WebSystemdSocket: &none, WebListenAddresses: &[]string{}}
	go func() {
		defer close(r.ended)
		err := web.Serve(netutil.LimitListener(listener, mostConnections), r.http, flags, slog.New(discardInfo{s.log.Handler(), new(atomic.Int64)}))
		_ = listener.Close() // Serve may have failed before it took the listener
		if !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("metrics are not served any more; mxcert tries again after the next pass", "error", err)
		}
	}()
	s.running = r
	return nil
}

// lives reports whether the server still listens.
func (r *running) lives() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// discardInfo is a log without what exporter-toolkit says when all is well. It logs an error for each request while its file is bad, and anybody
// who reaches the address could fill the journal so: of these, one a minute is enough.
type discardInfo struct {
	slog.Handler

	last *atomic.Int64 // when one was logged, in seconds
}

// Handle is part of [slog.Handler].
func (d discardInfo) Handle(ctx context.Context, r slog.Record) error {
	now, last := time.Now().Unix(), d.last.Load()
	if since := now - last; since >= 0 && since < int64(retry/time.Second) || !d.last.CompareAndSwap(last, now) {
		return nil
	}
	return d.Handler.Handle(ctx, r)
}

func (d discardInfo) Enabled(ctx context.Context, level slog.Level) bool {
	return level > slog.LevelInfo && d.Handler.Enabled(ctx, level)
}
