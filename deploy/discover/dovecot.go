package discover

import (
	"context"
	"fmt"
	"os"
	"strings"

	"mxcert/deploy"
)

// dovecot is a generation of Dovecot: how its settings are called and asked for.
type dovecot struct {
	certificate, key       string
	altCertificate, altKey string
	prefix                 string // of a path in the configuration
	filter                 string // of doveconf, for the name that a client asks for
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

func lookAtDovecot(ctx context.Context, names []string) (*Server, error) {
	program, err := find("doveconf")
	if err != nil {
		return nil, err
	}
	generation := dovecotOf(ctx, program)
	global, err := generation.ask(ctx, program, "")
	if err != nil {
		return nil, err
	}
	s := &Server{Kind: kindDovecot, reads: map[string][]deploy.Pair{"": global.pairs()}}
	if global.ssl == "no" {
		s.Notes = append(s.Notes, "Dovecot offers no TLS: ssl = no")
	}
	for _, name := range names {
		values, err := generation.ask(ctx, program, name)
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
	return s, nil
}

// dovecotOf finds out which generation runs here. Only 2.4 has this filter, and an ssl_server block.
func dovecotOf(ctx context.Context, program string) dovecot {
	if _, err := dovecot24().ask(ctx, program, "mx.invalid"); err == nil {
		return dovecot24()
	}
	return dovecot23()
}

// ask returns the settings for a client that asks for a name, or those that hold without one.
func (d dovecot) ask(ctx context.Context, program, name string) (dovecotSettings, error) {
	var args []string
	if name != "" {
		args = append(args, "-f", d.filter+"="+name)
	}
	if d.filter == dovecot24().filter {
		out, _, err := run(ctx, "", program, append(args, "ssl", "ssl_server")...)
		return d.parse(out), err
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

// parse reads what doveconf 2.4 says: it asks for the settings by their full names, and prints them in a block, without the block's name
// before each.
func (d dovecot) parse(out string) (s dovecotSettings) {
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
	file := "/etc/dovecot/conf.d/10-ssl.conf"
	if _, err := os.Stat(file); err != nil {
		file = "/etc/dovecot/dovecot.conf"
	}
	settings := [][2]string{{d.certificate, d.key}, {d.altCertificate, d.altKey}}
	var lines []string
	for i, ways := range wants {
		if i < len(settings) {
			lines = append(lines, fmt.Sprintf("`%s = %s%s`", settings[i][0], d.prefix, ways[0].Certificate), fmt.Sprintf("`%s = %s%s`", settings[i][1], d.prefix, ways[0].Key))
		}
	}
	return fmt.Sprintf("write %s into %s (and into the local_name block of that name, if there is one), then: systemctl reload dovecot", strings.Join(lines, ", "), file)
}
