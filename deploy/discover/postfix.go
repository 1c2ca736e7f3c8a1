package discover

import (
	"context"
	"fmt"
	"strings"
)

// postfixSettings are those that name certificates. smtpd_tls_chain_files wins over all others.
func postfixSettings() []string {
	return []string{"smtpd_tls_chain_files", "smtpd_tls_cert_file", "smtpd_tls_key_file", "smtpd_tls_eccert_file", "smtpd_tls_eckey_file",
		"smtpd_tls_dcert_file", "smtpd_tls_dkey_file", "tls_server_sni_maps", "smtpd_tls_security_level", "smtpd_use_tls"}
}

func lookAtPostfix(ctx context.Context, names []string) (*Server, error) {
	program, err := find("postconf")
	if err != nil {
		return nil, err
	}
	out, _, err := run(ctx, "", program, append([]string{"-x"}, postfixSettings()...)...)
	if err != nil {
		return nil, err
	}
	values := settings(out)
	s := &Server{Kind: "postfix", reads: map[string][]Pair{}}
	pairs := chainFiles(values["smtpd_tls_chain_files"])
	if values["smtpd_tls_chain_files"] == "" {
		for _, algorithm := range []string{"", "ec", "d"} {
			certificate, key := values["smtpd_tls_"+algorithm+"cert_file"], values["smtpd_tls_"+algorithm+"key_file"]
			if certificate != "" && certificate != "none" {
				pairs = append(pairs, Pair{certificate, orElse(key, certificate)})
			}
		}
	}
	for _, name := range append([]string{""}, names...) {
		s.reads[name] = pairs
	}
	s.maps = strings.FieldsFunc(values["tls_server_sni_maps"], commaOrSpace)
	off := values["smtpd_tls_security_level"] == "none" || values["smtpd_tls_security_level"] == "" && values["smtpd_use_tls"] != "yes"
	if off {
		s.Notes = append(s.Notes, "Postfix offers no TLS: smtpd_tls_security_level is not set")
	}
	s.overrides(ctx, program)
	s.advise = func(place Place) string { return advisePostfix(place, off) }
	return s, nil
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func commaOrSpace(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

// chainFiles reads smtpd_tls_chain_files: the key of each certificate comes first, in the same file or in the one before.
// Which it is does not show in the names, so that both readings are taken.
func chainFiles(text string) (pairs []Pair) {
	files := strings.FieldsFunc(text, commaOrSpace)
	for i, file := range files {
		pairs = append(pairs, Combined(file))
		if i > 0 {
			pairs = append(pairs, Pair{Certificate: file, Key: files[i-1]})
		}
	}
	return pairs
}

// overrides tells of services in master.cf with certificates of their own (-o smtpd_tls_cert_file=…).
func (s *Server) overrides(ctx context.Context, program string) {
	out, _, err := run(ctx, "", program, "-P")
	if err != nil {
		return
	}
	for _, line := range strings.Split(out, "\n") {
		name, value, found := strings.Cut(line, "=")
		parts := strings.Split(strings.TrimSpace(name), "/")
		setting := parts[len(parts)-1]
		if found && len(parts) == 3 && strings.HasPrefix(setting, "smtpd_tls_") && (strings.HasSuffix(setting, "_file") || strings.HasSuffix(setting, "_files")) {
			s.Notes = append(s.Notes, fmt.Sprintf("the service %s in master.cf has %s = %s of its own", printable(parts[0]+"/"+parts[1]), setting, printable(strings.TrimSpace(value))))
		}
	}
}

func advisePostfix(place Place, off bool) string {
	var files []string
	for _, want := range place.wants() {
		// Of a generation directory, the combined file is one rename; the list takes it as it is.
		pair := want[len(want)-1]
		if pair.Key != pair.Certificate {
			files = append(files, pair.Key)
		}
		files = append(files, pair.Certificate)
	}
	set := fmt.Sprintf("postconf -e 'smtpd_tls_chain_files = %s'", strings.Join(files, ", "))
	if place.SNIMap != "" {
		// With a map that is not there yet, Postfix fails every handshake of a client that asks for a name.
		_, source, typed := strings.Cut(place.SNIMap, ":")
		if !typed {
			source = place.SNIMap
		}
		set = fmt.Sprintf("(umask 077 && touch %s && postmap -F %s) && ", source, place.SNIMap) + set + fmt.Sprintf(" 'tls_server_sni_maps = %s'", place.SNIMap)
	}
	if off {
		set += " 'smtpd_tls_security_level = may'"
	}
	return "make it read them: " + set + " && systemctl reload postfix"
}
