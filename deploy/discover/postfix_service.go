package discover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mxcert/deploy"
)

// postfixService is a service in master.cf that takes connections from the network.
type postfixService struct {
	name   string            // as master.cf has it: submission/inet
	listen string            // the address that it listens at; "" for those of inet_interfaces
	port   string            // as a number
	screen bool              // postscreen, which hands the connections on
	own    map[string]string // settings that only this service has (-o)
	values map[string]string // all settings
}

// askServices lists the services. Without an answer there are none: what they override is then not known.
func (p *postfix) askServices(ctx context.Context) (list []postfixService) {
	out, _, err := run(ctx, "", p.postconf, "-M")
	if err != nil {
		return nil
	}
	overridden, _, err := run(ctx, "", p.postconf, "-P", "-x")
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(out, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[1] != "inet" || fields[7] != "smtpd" && fields[7] != "postscreen" {
			continue
		}
		s := postfixService{name: fields[0] + "/inet", screen: fields[7] == "postscreen", own: map[string]string{}, values: maps.Clone(p.values)}
		service := fields[0]
		if host, port, err := net.SplitHostPort(service); err == nil {
			s.listen, service = host, port
		}
		if port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service); err == nil {
			s.port = fmt.Sprint(port)
		}
		for _, line := range strings.Split(overridden, "\n") {
			name, value, _ := strings.Cut(line, "=")
			if setting, ok := strings.CutPrefix(strings.TrimSpace(name), s.name+"/"); ok && slices.Contains(postfixSettings(), setting) {
				s.own[setting] = strings.TrimSpace(value)
			}
		}
		maps.Copy(s.values, s.own)
		list = append(list, s)
	}
	return list
}

// files lists the own settings of the service that name files, sorted.
func (s postfixService) files() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.own)), func(name string) bool {
		return !strings.HasSuffix(name, "_file") && !strings.HasSuffix(name, "_files")
	})
}

func (s postfixService) notes() (notes []string) {
	for _, name := range s.files() {
		notes = append(notes, fmt.Sprintf("the service %s in master.cf has %s = %s of its own", quote(s.name), name, quote(s.own[name])))
	}
	return notes
}

// proxy returns the setting that makes the service expect the PROXY protocol; "" if it does not.
func (s postfixService) proxy() string {
	name := "smtpd_upstream_proxy_protocol"
	if s.screen {
		name = "postscreen_upstream_proxy_protocol"
	}
	if s.values[name] == "" {
		return ""
	}
	return name + " = " + s.values[name]
}

// serves reports whether connections to an endpoint reach the service.
func (s postfixService) serves(endpoint string) bool {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || port != s.port || !isOwn(host) {
		return false
	}
	address, err := netip.ParseAddr(strings.Replace(host, "localhost", "127.0.0.1", 1))
	if err != nil {
		return false
	}
	if s.listen != "" {
		listen, err := netip.ParseAddr(s.listen)
		return err != nil || listen.IsUnspecified() || listen == address
	}
	switch interfaces := s.values["inet_interfaces"]; interfaces {
	case "", "all":
		return true
	case "loopback-only", "localhost":
		return address.IsLoopback()
	default:
		return slices.Contains(strings.FieldsFunc(interfaces, commaOrSpace), host)
	}
}

// isOwn reports whether an address is one of this host.
func isOwn(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	return address.IsLoopback() || err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(net.IP(address.AsSlice()))
	})
}

// further checks what depends on the name and on the port that a client asks.
func (p *postfix) further(ctx context.Context, server *Server, w Wanted, targets []deploy.Target) (notes []string, err error) {
	var problems []error
	for _, service := range p.services {
		i := slices.IndexFunc(w.Endpoints, service.serves)
		if i < 0 {
			continue
		}
		if setting := service.proxy(); setting != "" {
			problems = append(problems, proxied(w.Endpoints[i], fmt.Sprintf("the service %s of Postfix: %s", quote(service.name), quote(setting))))
		}
		if err := service.compare(w.Endpoints[i], server.wants(targets)); err != nil {
			problems = append(problems, err)
		}
	}
	for _, tables := range p.mapsAt(w.Endpoints) {
		more, err := p.inMaps(ctx, tables, w.Names, targets)
		notes, problems = append(notes, more...), append(problems, err)
	}
	return notes, errors.Join(problems...)
}

// mapsAt lists the SNI maps of the services that serve the endpoints, each value once; those of main.cf if no service is known.
func (p *postfix) mapsAt(endpoints []string) (values []string) {
	const setting = "tls_server_sni_maps"
	for _, service := range p.services {
		if value := service.values[setting]; slices.ContainsFunc(endpoints, service.serves) && !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	if len(values) == 0 {
		values = []string{p.values[setting]}
	}
	return values
}

// inMaps checks whether SNI maps have another certificate for the names. The error is about the first name.
func (p *postfix) inMaps(ctx context.Context, maps string, names []string, targets []deploy.Target) (notes []string, err error) {
	for i, name := range names {
		table, tableErr := p.tableOf(ctx, mapList(maps), name, targets)
		if tableErr != nil {
			notes = append(notes, fmt.Sprintf("which certificate Postfix gives to clients that ask for %s cannot be told: %v", name, tableErr))
			break
		}
		if table == "" {
			continue
		}
		text := fmt.Sprintf("Postfix gives the certificate of %s to clients that ask for %s, not that of the target", quote(table), name)
		if i > 0 {
			notes = append(notes, text)
			continue
		}
		err = &Error{kind: kindNotRead, text: text, hint: fmt.Sprintf("set `sni_map: %s` in the target, or remove the entry of %s there (tls_server_sni_maps); or write `unchecked: true` into the target", quote(table), name)}
	}
	return notes, err
}

// compare checks that a service with files of its own reads the targets.
func (s postfixService) compare(endpoint string, wants [][]deploy.Pair) error {
	own := s.files()
	if len(own) == 0 {
		return nil
	}
	reads := &Server{Kind: kindPostfix, reads: map[string][]deploy.Pair{"": postfixPairs(s.values)}}
	for _, ways := range wants {
		if _, ok := reads.readsPair("", ways); ok {
			continue
		}
		for i, name := range own {
			own[i] = "'" + s.name + "/" + name + "'"
		}
		return &Error{kind: kindNotRead, unwritten: missing(ways[0].Certificate),
			text: fmt.Sprintf("the service %s of Postfix, which serves %s, does not read %s: it reads %s", quote(s.name), endpoint, pairText(ways[0]), reads.text("")),
			hint: fmt.Sprintf("make it read what the other services read: postconf -PX %s && systemctl reload postfix; or leave %s out of verify.endpoints", strings.Join(own, " "), endpoint)}
	}
	return nil
}

// tableOf returns the SNI map from which Postfix takes the certificate for a name, if it is not a map of the targets; "" if it is, or if no
// map has the name. Postfix asks for the name, then for each domain above it with a dot before it.
func (p *postfix) tableOf(ctx context.Context, tables []string, name string, targets []deploy.Target) (string, error) {
	if len(tables) == 0 {
		return "", nil
	}
	postmap, err := find("postmap")
	if err != nil {
		return "", nil //nolint:nilerr // nothing can be told
	}
	ours := func(table string) bool {
		return slices.ContainsFunc(targets, func(t deploy.Target) bool { return t.SNIMap == table })
	}
	for key := strings.ToLower(name); key != ""; {
		for _, table := range tables {
			if key == strings.ToLower(name) && ours(table) {
				return "", nil // it has the name, or the deployment adds it
			}
			found, err := lookup(ctx, postmap, key, table)
			if err != nil {
				return "", err
			}
			if found && ours(table) {
				return "", nil
			}
			if found {
				return table, nil
			}
		}
		dot := strings.Index(key[1:], ".")
		if dot < 0 {
			break
		}
		key = key[1+dot:]
	}
	return "", nil
}

// lookup asks a table for a key. The answer holds a private key, and goes nowhere.
func lookup(ctx context.Context, postmap, key, table string) (found bool, err error) {
	out, stderr, err := run(ctx, "", postmap, "-F", "-q", key, table)
	if err == nil {
		return out != "", nil
	}
	if failed, ok := errors.AsType[*Error](err); ok && failed.unfinished() {
		return false, failed.Err
	}
	if said := firstLine(stderr); said != "" {
		return false, fmt.Errorf("postmap -F -q %s %s: %s", key, quote(table), quote(said))
	}
	return false, nil // it is not there
}

// proxied says that mxcert cannot shake hands with an endpoint.
func proxied(endpoint, setting string) error {
	return &Error{kind: kindProxied, text: fmt.Sprintf("%s expects the PROXY protocol, so that mxcert cannot shake hands there (%s)", endpoint, setting),
		hint: "set verify.endpoints to the address and port of the proxy, where senders connect"}
}
