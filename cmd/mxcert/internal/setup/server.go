package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy"
	"mxcert/deploy/discover"
	"mxcert/deploy/starttls"
)

// Server is a mail server on this host.
type Server struct {
	Kind      string
	Pairs     []deploy.Pair // that it reads today, one for each certificate; none if it has none, or reads other things than plain paths
	Unit      string        // of systemd
	Endpoints []string      // at which it offers TLS, or will; none if it does not run

	exim    discover.EximSetup
	reading discover.Reading // of Postfix and Dovecot
}

// mailPorts are the ports of SMTP, submission, IMAP and POP3.
func mailPorts() []uint16 { return []uint16{25, 465, 587, 143, 993, 110, 995} }

// unitOf is the unit of a server whose process does not tell it.
func unitOf(kind string) string {
	return map[string]string{exim: eximUnit, postfix: "postfix.service", dovecot: "dovecot.service"}[kind]
}

// nameOf is a kind as a person writes it.
func nameOf(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// askServers finds the mail servers, and what else listens on their ports.
func (h *Host) askServers(ctx context.Context, listeners []discover.Listener) {
	var running, installed []Server
	for _, kind := range []string{exim, postfix, dovecot} {
		s, err := askServer(ctx, kind)
		if errors.Is(err, discover.ErrAbsent) {
			continue
		}
		if err != nil {
			h.note("%s, which does not say what it reads: %v", nameOf(kind), err)
		}
		var at []discover.Listener
		for _, l := range listeners {
			if l.Kind == kind || l.PID == 0 && belongs(kind, l.Address.Port()) { // without root's rights the owner is not known
				at = append(at, l)
			}
		}
		s.listens(at)
		if installed = append(installed, s); len(at) > 0 {
			running = append(running, s)
		}
	}
	if h.Servers = running; len(running) == 0 {
		h.Servers = installed
	}
	for i := range h.Servers {
		h.describe(ctx, &h.Servers[i])
	}
	for _, s := range installed {
		if !slices.ContainsFunc(h.Servers, func(other Server) bool { return other.Kind == s.Kind }) {
			h.note("%s is installed and does not listen on a mail port: it gets no target", nameOf(s.Kind))
		}
	}
	if len(h.Servers) == 0 {
		h.note("no Exim, Postfix or Dovecot on this host")
	}
	h.others(listeners)
}

// belongs reports whether a port is usually one of the server's.
func belongs(kind string, port uint16) bool {
	smtp := port == 25 || port == 465 || port == 587
	return smtp == (kind != dovecot)
}

func askServer(ctx context.Context, kind string) (s Server, err error) {
	s = Server{Kind: kind, Unit: unitOf(kind)}
	if kind == exim {
		s.exim, err = discover.Exim(ctx)
		s.Pairs = s.exim.Pairs
		return s, err
	}
	s.reading, err = discover.Read(ctx, kind)
	s.Pairs = s.reading.Pairs
	return s, err
}

// listens takes the unit and the endpoints from the server's own sockets.
func (s *Server) listens(list []discover.Listener) {
	for _, l := range list {
		if l.Unit != "" && l.Unit != "postfix@-.service" { // the main instance is reloaded as postfix.service, whatever runs
			s.Unit = l.Unit
		}
		if endpoint := l.Dial(); !slices.Contains(s.Endpoints, endpoint) {
			s.Endpoints = append(s.Endpoints, endpoint)
		}
	}
}

// describe notes what the server reads and where it listens, and leaves out endpoints that cannot show the certificate.
func (h *Host) describe(ctx context.Context, s *Server) {
	where := "which does not run"
	if len(s.Endpoints) > 0 {
		where = "on " + strings.Join(portsOf(s.Endpoints), ", ")
	}
	reads := "has no certificate of yours yet"
	switch {
	case len(s.Pairs) > 0:
		var list []string
		for _, pair := range s.Pairs {
			if pair.Certificate == pair.Key {
				list = append(list, "certificate and key from "+pair.Key)
			} else {
				list = append(list, pair.Certificate+" and "+pair.Key)
			}
		}
		reads = "reads " + strings.Join(list, "; ")
	case s.exim.Setting != "":
		reads = "reads " + finding.Quote(s.exim.Setting, 200) + ": not one plain path"
	}
	h.note("%s (%s, %s), which %s", nameOf(s.Kind), where, s.Unit, reads)
	for _, note := range s.reading.Notes {
		h.note("%s", note)
	}
	kept := s.Endpoints[:0]
	for _, endpoint := range s.Endpoints {
		if _, port, err := net.SplitHostPort(endpoint); err == nil && slices.Contains(s.reading.Apart, port) {
			h.note("%s is left out of verify.endpoints: its service has a certificate of its own", endpoint)
			continue
		}
		kept = append(kept, endpoint)
	}
	s.Endpoints = h.offering(ctx, kept)
}

// offering leaves out ports that do not offer TLS, if others of the same server do: it is switched off there.
func (h *Host) offering(ctx context.Context, endpoints []string) []string {
	without := map[string]bool{}
	for _, endpoint := range endpoints {
		ctx, cancel := context.WithTimeout(ctx, patience)
		_, err := starttls.Handshake(ctx, starttls.Request{Address: endpoint, KeyType: starttls.Any, BannerTimeout: patience})
		cancel()
		if failed, ok := errors.AsType[*starttls.Error](err); ok && failed.Kind() == starttls.KindSTARTTLSNotSupported {
			without[endpoint] = true
		}
	}
	if len(without) == len(endpoints) {
		return endpoints
	}
	for _, endpoint := range endpoints {
		if without[endpoint] {
			h.note("%s offers no TLS, so it is left out of verify.endpoints", endpoint)
		}
	}
	return slices.DeleteFunc(endpoints, func(endpoint string) bool { return without[endpoint] })
}

// portsOf lists the ports of endpoints, each once.
func portsOf(endpoints []string) (ports []string) {
	for _, endpoint := range endpoints {
		if _, port, err := net.SplitHostPort(endpoint); err == nil && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// others notes programs that mxcert does not know.
func (h *Host) others(listeners []discover.Listener) {
	seen := map[string][]string{}
	var order []discover.Listener
	for _, l := range listeners {
		if l.Kind != "" || l.PID == 0 {
			continue
		}
		port := strconv.Itoa(int(l.Address.Port()))
		if seen[l.String()] == nil {
			order = append(order, l)
		}
		if !slices.Contains(seen[l.String()], port) {
			seen[l.String()] = append(seen[l.String()], port)
		}
	}
	for _, l := range order {
		unit := cmp.Or(l.Unit, "ITS.service")
		h.note("something else listens on %s: %s. If it reads PEM files, add a target to `deploy`: `- files: {certificate: PATH, private_key: PATH, unit: %s}`, and %q to verify.endpoints",
			strings.Join(seen[l.String()], ", "), l, unit, fmt.Sprint(l.Dial()))
	}
}

// settleTime is how long a server may need to show changed files.
const settleTime = 10 * time.Second
