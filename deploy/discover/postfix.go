package discover

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"mxcert/deploy"
)

// postfixSettings lists the settings that name certificates. smtpd_tls_chain_files overrides all others.
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
	s := &Server{Kind: kindPostfix, reads: map[string][]deploy.Pair{}}
	pairs := chainFiles(values["smtpd_tls_chain_files"])
	if values["smtpd_tls_chain_files"] == "" {
		for _, algorithm := range []string{"", "ec", "d"} {
			certificate, key := values["smtpd_tls_"+algorithm+"cert_file"], values["smtpd_tls_"+algorithm+"key_file"]
			if certificate != "" && certificate != "none" {
				pairs = append(pairs, deploy.Pair{Certificate: certificate, Key: cmp.Or(key, certificate)})
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
	s.advise = func(targets []deploy.Target) string { return advisePostfix(targets, s.wants(targets), off) }
	return s, nil
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

// overrides adds notes about services in master.cf that have certificates of their own (-o smtpd_tls_cert_file=…).
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
			s.Notes = append(s.Notes, fmt.Sprintf("the service %s in master.cf has %s = %s of its own", quote(parts[0]+"/"+parts[1]), setting, quote(strings.TrimSpace(value))))
		}
	}
}

func advisePostfix(targets []deploy.Target, wants [][]deploy.Pair, off bool) string {
	var files []string
	for _, ways := range wants {
		pair := ways[len(ways)-1] // for a generation directory the combined file, because the list needs one path
		if pair.Key != pair.Certificate {
			files = append(files, pair.Key)
		}
		files = append(files, pair.Certificate)
	}
	set := fmt.Sprintf("postconf -e 'smtpd_tls_chain_files = %s'", strings.Join(files, ", "))
	if sniMap := mapOf(targets); sniMap != "" {
		// If the map is missing, Postfix fails every handshake of a client that asks for a name.
		_, source, typed := strings.Cut(sniMap, ":")
		if !typed {
			source = sniMap
		}
		set = fmt.Sprintf("(umask 077 && touch %s && postmap -F %s) && ", source, sniMap) + set + fmt.Sprintf(" 'tls_server_sni_maps = %s'", sniMap)
	}
	if off {
		set += " 'smtpd_tls_security_level = may'"
	}
	return "make it read them: " + set + " && systemctl reload postfix"
}
