package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mxcert/deploy"
)

// dovecot is a generation of Dovecot: how its settings are called and asked for.
type dovecot struct {
	certificate, key       string
	altCertificate, altKey string
	prefix                 string // of a path in the configuration
	filter                 string // of doveconf, for the name that a client asks for
	file                   string // the configuration to read; "" for Dovecot's own
}

// dovecot23 is Dovecot up to 2.3, and dovecot24 is 2.4.
func dovecot23() dovecot {
	return dovecot{certificate: "ssl_cert", key: "ssl_key", altCertificate: "ssl_alt_cert", altKey: "ssl_alt_key", prefix: "<", filter: "lname"}
}

func dovecot24() dovecot {
	return dovecot{certificate: "ssl_server_cert_file", key: "ssl_server_key_file", altCertificate: "ssl_server_alt_cert_file", altKey: "ssl_server_alt_key_file", filter: "local_name"}
}

// dovecotSettings are the values of one question, without the prefix of paths.
type dovecotSettings struct {
	ssl              string
	certificate, key string
	alt, altKey      string
}

func lookAtDovecot(ctx context.Context, w Wanted) (*Server, error) {
	program, err := find("doveconf")
	if err != nil {
		return nil, err
	}
	generation := dovecotOf(ctx, program)
	global, err := generation.ask(ctx, program)
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kindDovecot, reads: map[string][]deploy.Pair{"": global.pairs()}}
	if global.ssl == "no" {
		s.Notes = append(s.Notes, "Dovecot offers no TLS: ssl = no")
	}
	for _, name := range w.Names {
		values, err := generation.ask(ctx, program, generation.filter+"="+name)
		if err != nil {
			return nil, err
		}
		s.reads[name] = values.pairs()
		if values.alt != "" && values.alt == global.alt && values.certificate != global.certificate {
			s.Notes = append(s.Notes, fmt.Sprintf("the local_name block for %[1]s has an %[2]s of its own, but inherits %[3]s = %[4]s: set `%[3]s =` and `%[5]s =` (empty) or paths of its own there",
				name, generation.certificate, generation.altCertificate, quote(generation.prefix+values.alt), generation.altKey))
		}
	}
	s.advise = func(targets []deploy.Target) string { return generation.advise(s.wants(targets)) }
	s.further = func(targets []deploy.Target) ([]string, error) {
		listeners := dovecotListeners(ctx, program)
		return nil, errors.Join(proxiedListener(listeners, w.Endpoints),
			s.atEndpoints(ctx, w, targets, listeners, generation.filter, func(filters ...string) (dovecotSettings, error) {
				return generation.ask(ctx, program, filters...)
			}))
	}
	return s, nil
}

// dovecotOf finds out which generation runs here. Only 2.4 has this filter, and an ssl_server block.
func dovecotOf(ctx context.Context, program string) dovecot {
	if _, err := dovecot24().ask(ctx, program, dovecot24().filter+"=mx.invalid"); err == nil {
		return dovecot24()
	}
	return dovecot23()
}

// dovecotProtocol returns the protocol of a port, as Dovecot's protocol blocks name it; "" for other ports.
func dovecotProtocol(port string) string {
	return map[string]string{"143": "imap", "993": "imap", "110": "pop3", "995": "pop3", "24": "lmtp", "587": "submission", "465": "submission", "4190": "sieve"}[port]
}

// atEndpoints checks what Dovecot reads for the first name at each endpoint: a block may be for a protocol, or for an address (local).
func (s *Server) atEndpoints(ctx context.Context, w Wanted, targets []deploy.Target, listeners []dovecotListener, name string, ask func(filters ...string) (dovecotSettings, error)) error {
	for _, endpoint := range w.Endpoints {
		host, port, err := net.SplitHostPort(endpoint)
		protocol := dovecotProtocol(port)
		if l, ok := listenerAt(listeners, endpoint); ok && l.protocol != "" {
			protocol = l.protocol
		}
		if err != nil || protocol == "" || !isOwn(host) || len(w.Names) == 0 || ctx.Err() != nil {
			continue
		}
		values, err := ask("protocol="+protocol, "local="+strings.Replace(host, "localhost", "127.0.0.1", 1), name+"="+w.Names[0])
		if err != nil {
			continue // without the filters it has answered
		}
		at := &Server{Kind: kindDovecot, reads: map[string][]deploy.Pair{"": values.pairs()}}
		for _, ways := range s.wants(targets) {
			if _, ok := at.readsPair("", ways); ok {
				continue
			}
			return &Error{kind: kindNotRead, unwritten: missing(ways[0].Certificate),
				text: fmt.Sprintf("for %s at %s, Dovecot does not read %s: it reads %s", w.Names[0], endpoint, pairText(ways[0]), at.text("")),
				hint: fmt.Sprintf("a block for the protocol %s or for this address has a certificate of its own (doveconf -n): write the paths there, or leave %s out of verify.endpoints", protocol, endpoint)}
		}
	}
	return nil
}

// ask returns the settings for a connection that the filters describe, or those that hold without one.
func (d dovecot) ask(ctx context.Context, program string, filters ...string) (dovecotSettings, error) {
	var args []string
	if d.file != "" {
		args = append(args, "-c", d.file)
	}
	for _, filter := range filters {
		args = append(args, "-f", filter)
	}
	if d.filter == dovecot24().filter {
		out, _, err := run(ctx, "", program, append(args, "ssl", "ssl_server")...)
		return parseBlock(out), err
	}
	out, _, err := run(ctx, "", program, append(args, "-h", "ssl", d.certificate, d.key, d.altCertificate, d.altKey)...)
	lines := strings.Split(out, "\n")
	line := func(i int) string {
		if i >= len(lines) {
			return ""
		}
		return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines[i]), d.prefix)) // ssl_cert = </path
	}
	return dovecotSettings{ssl: line(0), certificate: line(1), key: line(2), alt: line(3), altKey: line(4)}, err
}

// parseBlock reads what doveconf 2.4 says: the settings stand in a block, without the block's name before each.
func parseBlock(out string) (s dovecotSettings) {
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		switch strings.TrimPrefix(name, "ssl_server_") {
		case "ssl":
			s.ssl = value
		case "cert_file":
			s.certificate = value
		case "key_file":
			s.key = value
		case "alt_cert_file":
			s.alt = value
		case "alt_key_file":
			s.altKey = value
		}
	}
	return s
}

// pairs lists the pairs that the settings name.
func (s dovecotSettings) pairs() (pairs []deploy.Pair) {
	for _, pair := range []deploy.Pair{{Certificate: s.certificate, Key: s.key}, {Certificate: s.alt, Key: s.altKey}} {
		if pair.Certificate != "" {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// advise says which lines make Dovecot read the first way of each target, for the two types of key that it can have.
func (d dovecot) advise(wants [][]deploy.Pair) string {
	settings := [][2]string{{d.certificate, d.key}, {d.altCertificate, d.altKey}}
	var lines []string
	for i, ways := range wants {
		if i < len(settings) {
			lines = append(lines, fmt.Sprintf("`%s = %s%s`", settings[i][0], d.prefix, ways[0].Certificate), fmt.Sprintf("`%s = %s%s`", settings[i][1], d.prefix, ways[0].Key))
		}
	}
	return fmt.Sprintf("write %s at the end of %s (and into the local_name block of that name, if there is one), then: systemctl reload dovecot",
		strings.Join(lines, ", "), dovecotFile("/etc/dovecot", d.certificate))
}

// dovecotFile returns the file of Debian's configuration in which a setting counts: the last one that has it, because Dovecot takes the last
// value that it reads.
func dovecotFile(directory, setting string) string {
	parts, err := filepath.Glob(filepath.Join(directory, "conf.d", "*.conf"))
	file := filepath.Join(directory, "conf.d", "10-ssl.conf")
	if err != nil || !slices.Contains(parts, file) {
		file = filepath.Join(directory, "dovecot.conf")
	}
	slices.Sort(parts)
	sets := regexp.MustCompile(`(?m)^` + setting + `\s*=`)
	for _, part := range append(parts, filepath.Join(directory, "local.conf")) {
		if text, err := os.ReadFile(part); err == nil && sets.Match(text) {
			file = part
		}
	}
	return file
}
