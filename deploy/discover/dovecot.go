package discover

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mxcert/deploy"
)

// dovecotNames lists the settings of Dovecot 2.3. In 2.4 the first two have other names, and there is no alternative certificate.
func dovecotNames() [][]string {
	return [][]string{{"ssl", "ssl_cert", "ssl_key", "ssl_alt_cert", "ssl_alt_key"}, {"ssl", "ssl_server_cert_file", "ssl_server_key_file"}}
}

func lookAtDovecot(ctx context.Context, w Wanted) (*Server, error) {
	program, err := find("doveconf")
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kindDovecot, reads: map[string][]deploy.Pair{}}
	var settings []string
	var global []string
	for _, settings = range dovecotNames() {
		if global, err = askDovecot(ctx, program, settings); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s.reads[""] = dovecotPairs(global)
	if global[0] == "no" {
		s.Notes = append(s.Notes, "Dovecot offers no TLS: ssl = no")
	}
	for _, name := range w.Names {
		values, err := askDovecot(ctx, program, settings, "lname="+name)
		if err != nil {
			return nil, err
		}
		s.reads[name] = dovecotPairs(values)
		if len(values) > 4 && values[3] != "" && values[3] == global[3] && values[1] != global[1] {
			s.Notes = append(s.Notes, fmt.Sprintf("the local_name block for %s has an ssl_cert of its own, but inherits ssl_alt_cert = %s: set `ssl_alt_cert =` and `ssl_alt_key =` (empty) or paths of its own there",
				name, quote(values[3])))
		}
	}
	s.advise = func(targets []deploy.Target) string { return adviseDovecot(s.wants(targets), settings) }
	s.further = func(targets []deploy.Target) ([]string, error) {
		return nil, s.atEndpoints(ctx, w, targets, func(filters ...string) ([]string, error) {
			return askDovecot(ctx, program, settings, filters...)
		})
	}
	return s, nil
}

// dovecotProtocol returns the protocol of a port, as Dovecot's protocol blocks name it; "" for other ports.
func dovecotProtocol(port string) string {
	return map[string]string{"143": "imap", "993": "imap", "110": "pop3", "995": "pop3", "24": "lmtp", "587": "submission", "465": "submission", "4190": "sieve"}[port]
}

// atEndpoints checks what Dovecot reads for the first name at each endpoint: a block may be for a protocol, or for an address (local).
func (s *Server) atEndpoints(ctx context.Context, w Wanted, targets []deploy.Target, ask func(filters ...string) ([]string, error)) error {
	for _, endpoint := range w.Endpoints {
		host, port, err := net.SplitHostPort(endpoint)
		protocol := dovecotProtocol(port)
		if err != nil || protocol == "" || !isOwn(host) || len(w.Names) == 0 || ctx.Err() != nil {
			continue
		}
		filters := []string{"protocol=" + protocol, "local=" + strings.Replace(host, "localhost", "127.0.0.1", 1), "lname=" + w.Names[0]}
		values, err := ask(filters...)
		if err != nil {
			continue // without the filters it has answered
		}
		at := &Server{Kind: kindDovecot, reads: map[string][]deploy.Pair{"": dovecotPairs(values)}}
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

// askDovecot returns the settings for a connection that the filters describe, in the given order.
func askDovecot(ctx context.Context, program string, settings []string, filters ...string) ([]string, error) {
	var args []string
	for _, filter := range filters {
		args = append(args, "-f", filter)
	}
	out, _, err := run(ctx, "", program, append(append(args, "-h"), settings...)...)
	if err != nil {
		return nil, err
	}
	values := make([]string, len(settings))
	for i, line := range strings.SplitN(out, "\n", len(settings)+1) {
		if i < len(values) {
			values[i] = strings.TrimSpace(line)
		}
	}
	return values, nil
}

// dovecotPairs reads ssl_cert = </path (the < of 2.3 reads a file into the setting).
func dovecotPairs(values []string) (pairs []deploy.Pair) {
	for i := 1; i+1 < len(values); i += 2 {
		if certificate := fileOf(values[i]); certificate != "" {
			pairs = append(pairs, deploy.Pair{Certificate: certificate, Key: fileOf(values[i+1])})
		}
	}
	return pairs
}

func fileOf(value string) string { return strings.TrimSpace(strings.TrimPrefix(value, "<")) }

func adviseDovecot(wants [][]deploy.Pair, settings []string) string {
	file := dovecotFile("/etc/dovecot", settings[1])
	prefix := "<"
	if len(settings) < 5 {
		prefix = ""
	}
	var lines []string
	for i, ways := range wants {
		if 2+2*i < len(settings) {
			lines = append(lines, fmt.Sprintf("`%s = %s%s`", settings[1+2*i], prefix, ways[0].Certificate), fmt.Sprintf("`%s = %s%s`", settings[2+2*i], prefix, ways[0].Key))
		}
	}
	return fmt.Sprintf("write %s at the end of %s (and into the local_name block of that name, if there is one), then: systemctl reload dovecot", strings.Join(lines, ", "), file)
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
