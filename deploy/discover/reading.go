package discover

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	"mxcert/deploy"
)

// Reading is what the Postfix or the Dovecot on this host reads, for somebody who is about to configure it. For Exim see [EximSetup].
type Reading struct {
	Kind  string        // postfix or dovecot
	Pairs []deploy.Pair // one for each certificate; a file with both has the same path twice; none if the server has no certificate
	Off   bool          // the server offers no TLS
	Apart []string      // ports with certificates of their own (master.cf)
	Notes []string      // surprising facts, for a person

	config     string // path of the configuration file that counts: main.cf or dovecot.conf
	generation dovecot
}

// Read asks the server of a kind what it reads for clients that ask for no name. The error is ErrAbsent, or an *Error that contains a
// program's answer.
func Read(ctx context.Context, kind string) (Reading, error) {
	switch kind {
	case kindPostfix:
		return readPostfix(ctx, "")
	case kindDovecot:
		return readDovecot(ctx, "")
	}
	return Reading{}, ErrAbsent
}

// File returns the path of the file that a change concerns: main.cf, or mxcert's own file in Dovecot's conf.d.
func (r Reading) File() string {
	if r.Kind == kindPostfix {
		return r.config
	}
	return filepath.Join(filepath.Dir(r.config), "conf.d", dovecotPart)
}

// readPostfix asks Postfix, or what it would be with the configuration in another directory.
func readPostfix(ctx context.Context, directory string) (Reading, error) {
	program, err := find("postconf")
	if err != nil {
		return Reading{}, err
	}
	var args []string
	if directory != "" {
		args = []string{"-c", directory}
	}
	out, _, err := run(ctx, "", program, append(append(args, "-x", "config_directory"), postfixSettings()...)...)
	if err != nil {
		return Reading{}, err
	}
	p := &postfix{postconf: program, values: settings(out)}
	r := Reading{Kind: kindPostfix, Pairs: chainPairs(p.values), Off: p.off(), config: filepath.Join(p.values["config_directory"], "main.cf")}
	if directory != "" {
		r.config = filepath.Join(directory, "main.cf")
		return r, nil
	}
	for _, service := range p.askServices(ctx) {
		if notes := service.notes(); len(notes) > 0 {
			r.Apart, r.Notes = append(r.Apart, service.port), append(r.Notes, notes...)
		}
	}
	if maps := mapList(p.values["tls_server_sni_maps"]); len(maps) > 0 {
		r.Notes = append(r.Notes, "Postfix has certificates for single names in "+quote(strings.Join(maps, ", "))+" (tls_server_sni_maps); they stay")
	}
	return r, nil
}

// off reports whether Postfix offers no TLS.
func (p *postfix) off() bool {
	return p.values["smtpd_tls_security_level"] == "none" || p.values["smtpd_tls_security_level"] == "" && p.values["smtpd_use_tls"] != "yes"
}

// chainPairs is postfixPairs, but looks into the files of smtpd_tls_chain_files to see where each key is.
func chainPairs(values map[string]string) (pairs []deploy.Pair) {
	files := strings.FieldsFunc(values["smtpd_tls_chain_files"], commaOrSpace)
	if len(files) == 0 {
		return postfixPairs(values)
	}
	key := ""
	for i, file := range files {
		hasCertificate, hasKey := contents(file)
		if !hasCertificate && !hasKey { // it cannot be read: a list of one is a combined file, in a longer one keys and certificates alternate
			hasCertificate, hasKey = len(files)%2 == 1 || i%2 == 1, len(files)%2 == 1 || i%2 == 0
		}
		switch {
		case hasCertificate && hasKey:
			pairs = append(pairs, combined(file))
		case hasCertificate && key != "":
			pairs = append(pairs, deploy.Pair{Certificate: file, Key: key})
		case hasKey:
			key = file
		}
	}
	return pairs
}

// contents reports what a PEM file holds.
func contents(path string) (certificate, key bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, false
	}
	return bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")), bytes.Contains(text, []byte("PRIVATE KEY-----"))
}

// readDovecot asks Dovecot, or what it would be with another configuration file.
func readDovecot(ctx context.Context, file string) (Reading, error) {
	program, err := find("doveconf")
	if err != nil {
		return Reading{}, err
	}
	generation := dovecotOf(ctx, program)
	generation.file = file
	values, err := generation.ask(ctx, program)
	if err != nil {
		return Reading{}, err
	}
	r := Reading{Kind: kindDovecot, Pairs: values.pairs(), Off: values.ssl == "no", config: file, generation: generation}
	if file == "" {
		r.config = dovecotMain(ctx, program)
	}
	return r, nil
}

// dovecotMain returns the path of the main configuration file: the first line of doveconf -n is "# VERSION: PATH".
func dovecotMain(ctx context.Context, program string) string {
	out, _, err := run(ctx, "", program, "-n")
	line, _, _ := strings.Cut(out, "\n")
	if i := strings.LastIndex(line, ": /"); err == nil && strings.HasPrefix(line, "#") && i >= 0 {
		return strings.TrimSpace(line[i+2:])
	}
	return "/etc/dovecot/dovecot.conf"
}
