package discover

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
)

// Sending is what a mail server says about itself, and what it shows to the servers to which it sends mail.
type Sending struct {
	Kind    string              // exim or postfix
	Name    string              // of the host, in the greeting
	HELO    []string            // names in EHLO to other servers; those that are decided at each connection are left out
	Clients []ClientCertificate // none is usual, and best

	// Of Exim, as they are written, with expressions.
	Certificate string // tls_certificate
	Stapling    string // tls_ocsp_file; "" if it is not set
}

// ClientCertificate is a certificate that the mail server shows when it is the client.
type ClientCertificate struct {
	Where   string // "the transport remote_smtp", "main.cf", or the service of master.cf
	Setting string
	Path    string // as it is written: an expression of Exim is kept
}

// LookAtSending asks the Exim or the Postfix on this host. The error is ErrAbsent, or an *Error that contains a program's answer.
func LookAtSending(ctx context.Context, kind string) (Sending, error) {
	switch kind {
	case kindExim:
		return eximSending(ctx)
	case kindPostfix:
		return postfixSending(ctx)
	}
	return Sending{}, ErrAbsent
}

func eximSending(ctx context.Context) (Sending, error) {
	program, err := find("exim4", "exim")
	if err != nil {
		return Sending{}, err
	}
	out, _, err := run(ctx, "", program, "-bP", "primary_hostname", "smtp_active_hostname", "tls_certificate", "tls_ocsp_file")
	if err != nil {
		return Sending{}, err
	}
	values := settings(out)
	s := Sending{Kind: kindExim, Name: values["primary_hostname"], Certificate: values["tls_certificate"], Stapling: values["tls_ocsp_file"]}
	if active := values["smtp_active_hostname"]; plainHost(active) {
		s.Name = active
	}
	transports, _, err := run(ctx, "", program, "-bP", "transports")
	if err != nil {
		return s, err
	}
	s.HELO, s.Clients = readTransports(transports, values["primary_hostname"])
	return s, nil
}

// readTransports reads what exim4 -bP transports prints: a line "NAME transport:" before the settings of each.
func readTransports(text, primary string) (helo []string, clients []ClientCertificate) {
	transport := ""
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " transport:"); ok {
			transport = name
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name == "tls_certificate" && value != "":
			clients = append(clients, ClientCertificate{Where: "the transport " + quote(transport), Setting: name, Path: value})
		case name == "helo_data" && (value == "$primary_hostname" || value == "${primary_hostname}"):
			helo = append(helo, primary)
		case name == "helo_data" && plainHost(value):
			helo = append(helo, value)
		}
	}
	slices.Sort(helo)
	return slices.Compact(helo), clients
}

// plainHost reports whether a value is a host name, and no expression.
func plainHost(value string) bool {
	return value != "" && !strings.ContainsAny(value, "$ \t/:[]") && net.ParseIP(value) == nil
}

// clientSettings lists Postfix's settings that name certificates of its clients.
func clientSettings() (list []string) {
	for _, prefix := range []string{"smtp", "lmtp"} {
		for _, name := range []string{"chain_files", "cert_file", "eccert_file", "dcert_file"} {
			list = append(list, prefix+"_tls_"+name)
		}
	}
	return list
}

func postfixSending(ctx context.Context) (Sending, error) {
	program, err := find("postconf")
	if err != nil {
		return Sending{}, err
	}
	out, _, err := run(ctx, "", program, append([]string{"-x", "myhostname", "smtp_helo_name"}, clientSettings()...)...)
	if err != nil {
		return Sending{}, err
	}
	values := settings(out)
	s := Sending{Kind: kindPostfix, Name: values["myhostname"]}
	if helo := cmp.Or(values["smtp_helo_name"], values["myhostname"]); plainHost(helo) {
		s.HELO = []string{helo}
	}
	s.Clients = clientFiles("main.cf", values)
	overridden, _, err := run(ctx, "", program, "-P", "-x")
	if err != nil {
		return s, err
	}
	services := map[string]map[string]string{}
	var order []string
	for _, line := range strings.Split(overridden, "\n") {
		name, value, _ := strings.Cut(line, "=")
		parts := strings.Split(strings.TrimSpace(name), "/") // smtp/unix/smtp_tls_cert_file; a service may be a path
		if len(parts) < 3 || !slices.Contains(clientSettings(), parts[len(parts)-1]) {
			continue
		}
		service := strings.Join(parts[:len(parts)-1], "/")
		if services[service] == nil {
			services[service] = map[string]string{}
			order = append(order, service)
		}
		services[service][parts[len(parts)-1]] = strings.TrimSpace(value)
	}
	for _, service := range order {
		s.Clients = append(s.Clients, clientFiles("the service "+quote(service)+" in master.cf", services[service])...)
	}
	return s, nil
}

func clientFiles(where string, values map[string]string) (clients []ClientCertificate) {
	for _, setting := range clientSettings() {
		for _, path := range strings.FieldsFunc(values[setting], commaOrSpace) {
			if path != "none" {
				clients = append(clients, ClientCertificate{Where: where, Setting: setting, Path: path})
			}
		}
	}
	return clients
}
