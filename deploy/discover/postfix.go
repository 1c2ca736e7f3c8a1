package discover

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"mxcert/deploy"
)

// postfixSettings lists the settings that name certificates, and those that say who gets them. smtpd_tls_chain_files overrides all others that name files.
func postfixSettings() []string {
	return []string{"smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_key_file", "smtpd_tls_eccert_file", "smtpd_tls_eckey_file",
		"smtpd_tls_dcert_file", "smtpd_tls_dkey_file", "tls_server_sni_maps", "smtpd_tls_security_level", "smtpd_use_tls",
		"smtpd_upstream_proxy_protocol", "postscreen_upstream_proxy_protocol", "inet_interfaces"}
}

// postfix is what one Postfix reports about itself.
type postfix struct {
	postconf string
	values   map[string]string // of main.cf
	services []postfixService  // in master.cf, that take connections from the network
}

func lookAtPostfix(ctx context.Context, w Wanted) (*Server, error) {
	program, err := find("postconf")
	if err != nil {
		return nil, err
	}
	out, _, err := run(ctx, "", program, append([]string{"-x"}, postfixSettings()...)...)
	if err != nil {
		return nil, err
	}
	p := &postfix{postconf: program, values: settings(out)}
	p.services = p.askServices(ctx)
	s := &Server{Kind: kindPostfix, reads: map[string][]deploy.Pair{}}
	pairs := postfixPairs(p.values)
	for _, name := range append([]string{""}, w.Names...) {
		s.reads[name] = pairs
	}
	s.maps = mapList(p.values["tls_server_sni_maps"])
	for _, service := range p.services {
		s.maps = append(s.maps, mapList(service.own["tls_server_sni_maps"])...)
	}
	off := p.off()
	if off {
		s.Notes = append(s.Notes, "Postfix offers no TLS: smtpd_tls_security_level is not set")
	}
	for _, service := range p.services {
		s.Notes = append(s.Notes, service.notes()...)
	}
	s.advise = func(targets []deploy.Target) string { return p.advise(targets, s.wants(targets), len(pairs) == 0, off) }
	s.further = func(targets []deploy.Target) ([]string, error) { return p.further(ctx, s, w, targets) }
	return s, nil
}

// postfixPairs returns the files that the settings of a service name.
func postfixPairs(values map[string]string) (pairs []deploy.Pair) {
	if chain := values["smtpd_tls_chain_files"]; chain != "" {
		return chainFiles(chain)
	}
	for _, algorithm := range []string{"", "ec", "d"} {
		certificate, key := values["smtpd_tls_"+algorithm+"cert_file"], values["smtpd_tls_"+algorithm+"key_file"]
		if certificate != "" && certificate != "none" {
			pairs = append(pairs, deploy.Pair{Certificate: certificate, Key: cmp.Or(key, certificate)})
		}
	}
	return pairs
}

func commaOrSpace(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

// chainFiles reads smtpd_tls_chain_files. The key of each certificate comes first, in the same file or in the file before. The names do not
// show which, so chainFiles lists both possibilities.
func chainFiles(text string) (pairs []deploy.Pair) {
	files := strings.FieldsFunc(text, commaOrSpace)
	for i, file := range files {
		pairs = append(pairs, combined(file))
		if i > 0 {
			pairs = append(pairs, deploy.Pair{Certificate: file, Key: files[i-1]})
		}
	}
	return pairs
}

// mapList reads a list of tables. A table in braces, such as inline:{ {a = b} }, is one element.
func mapList(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		return depth == 0 && commaOrSpace(r)
	})
}

// advise returns the commands that make Postfix read the targets. bare says that Postfix has no certificate yet.
func (p *postfix) advise(targets []deploy.Target, wants [][]deploy.Pair, bare, off bool) string {
	sniMap := mapOf(targets)
	if sniMap != "" && bare && len(wants) == 0 {
		for _, t := range targets {
			wants = append(wants, t.Pairs(nil))
		}
	}
	var files []string
	for _, ways := range wants {
		pair := ways[len(ways)-1] // for a generation directory the combined file, because the list needs one path
		if pair.Key != pair.Certificate {
			files = append(files, pair.Key)
		}
		files = append(files, pair.Certificate)
	}
	var before string
	var set []string
	if len(files) > 0 {
		set = append(set, fmt.Sprintf("'smtpd_tls_chain_files = %s'", strings.Join(files, ", ")))
	}
	if maps := mapList(p.values["tls_server_sni_maps"]); sniMap != "" && !slices.Contains(maps, sniMap) {
		// If the map is missing, Postfix fails every handshake of a client that asks for a name.
		before = fmt.Sprintf("(umask 077 && touch %s && postmap -F %s) && ", mapPath(sniMap), sniMap)
		set = append(set, fmt.Sprintf("'tls_server_sni_maps = %s'", strings.Join(append(maps, sniMap), ", ")))
	}
	if off {
		set = append(set, "'smtpd_tls_security_level = may'")
	}
	return "make it read them: " + before + "postconf -e " + strings.Join(set, " ") + " && systemctl reload postfix"
}
