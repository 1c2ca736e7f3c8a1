package discover

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// dovecotListener is a port at which a service of Dovecot takes connections from the network.
type dovecotListener struct {
	service, protocol string   // as Dovecot names them: imap-login, imap
	port              string   // as a number
	addresses         []string // empty for those of the setting listen
	proxied           bool     // it expects the PROXY protocol
}

// dovecotListeners asks Dovecot at which ports it listens. Without an answer there are none: the usual ports count then.
func dovecotListeners(ctx context.Context, program string) []dovecotListener {
	out, _, err := run(ctx, "", program, "service")
	if err != nil {
		return nil
	}
	return parseListeners(out)
}

// parseListeners reads the blocks `service NAME { inet_listener NAME { … } }`. The protocol of a service may follow its listeners.
func parseListeners(out string) (list []dovecotListener) {
	var service, protocol string
	var listener *dovecotListener
	first, depth := 0, 0 // first is the first listener of the service
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		name, value, isSetting := strings.Cut(line, " =")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasSuffix(line, "{") && depth == 0:
			service, protocol, first = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(line, "service "), "{")), "", len(list)
			depth++
		case strings.HasSuffix(line, "{"):
			if depth == 1 && strings.HasPrefix(line, "inet_listener") {
				listener = &dovecotListener{service: service}
			}
			depth++
		case line == "}":
			if depth--; depth == 1 && listener != nil {
				if listener.port != "" && listener.port != "0" {
					list = append(list, *listener)
				}
				listener = nil
			}
			for i := first; depth == 0 && i < len(list); i++ {
				list[i].protocol = protocol
			}
		case !isSetting:
		case listener != nil:
			listener.set(name, value)
		case depth == 1 && name == "protocol":
			protocol = value
		}
	}
	return list
}

func (l *dovecotListener) set(name, value string) {
	switch name {
	case "port":
		l.port = value
	case "address", "listen": // 2.3, 2.4
		l.addresses = strings.FieldsFunc(value, commaOrSpace)
	case "haproxy":
		l.proxied = value == "yes"
	}
}

// serves reports whether connections to an address and port of this host reach the listener.
func (l dovecotListener) serves(host, port string) bool {
	if port != l.port {
		return false
	}
	address, err := netip.ParseAddr(strings.Replace(host, "localhost", "127.0.0.1", 1))
	return err == nil && (len(l.addresses) == 0 || slices.ContainsFunc(l.addresses, func(text string) bool {
		listen, err := netip.ParseAddr(strings.Trim(text, "[]"))
		return text == "*" && address.Is4() || err != nil && text != "*" || listen == address || err == nil && listen.IsUnspecified() && listen.Is4() == address.Is4()
	}))
}

// listenerAt finds the listener that an endpoint leads to.
func listenerAt(listeners []dovecotListener, endpoint string) (dovecotListener, bool) {
	host, port, err := net.SplitHostPort(endpoint)
	i := slices.IndexFunc(listeners, func(l dovecotListener) bool { return err == nil && isOwn(host) && l.serves(host, port) })
	if i < 0 {
		return dovecotListener{}, false
	}
	return listeners[i], true
}

// proxiedListener finds an endpoint where Dovecot expects the PROXY protocol. Dovecot takes no connection there without it, whatever
// haproxy_trusted_networks names.
func proxiedListener(listeners []dovecotListener, endpoints []string) error {
	for _, endpoint := range endpoints {
		if l, ok := listenerAt(listeners, endpoint); ok && l.proxied {
			return proxied(endpoint, "haproxy = yes in an inet_listener of Dovecot's service "+quote(l.service))
		}
	}
	return nil
}
