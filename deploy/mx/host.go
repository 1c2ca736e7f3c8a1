package mx

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"mxcert/acme/resolve"
)

// host is what DNS says about one name.
type host struct {
	name   string
	alias  string // the end of its CNAME records; "" if it is none
	v4, v6 resolve.Set[netip.Addr]
}

func lookAtHost(ctx context.Context, resolver *resolve.Resolver, name string) host {
	h := host{name: name, v4: resolver.LookIPv4(ctx, name), v6: resolver.LookIPv6(ctx, name)}
	for _, final := range []string{h.v4.Final, h.v6.Final} {
		if final != "" && final != name && h.alias == "" {
			h.alias = final
		}
	}
	return h
}

// has reports whether one of the host's addresses is among others.
func (h host) has(own []netip.Addr) bool {
	return slices.ContainsFunc(slices.Concat(h.v4.Records, h.v6.Records), func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) })
}

// err returns why it is not known which addresses the host has; nil if it is.
func (h host) err() error {
	switch {
	case h.v4.Err != nil:
		return h.v4.Err
	case h.v6.Err != nil:
		return h.v6.Err
	}
	return nil
}

// denied reports whether the host certainly has no address.
func (h host) denied() bool { return h.v4.Denied() && h.v6.Denied() }

func (h host) addresses() (list []string) {
	for _, a := range slices.Concat(h.v4.Records, h.v6.Records) {
		list = append(list, a.String())
	}
	return list
}

// isAddress reports whether a host of an MX record is an IP address: 192.0.2.1 has the form of a name.
func isAddress(name string) bool {
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

// Uncertifiable returns why no CA certifies a name (RFC 1123 section 2.1, CA/Browser Forum Baseline Requirements section 7.1.4.2.1); "" if
// one does.
func Uncertifiable(name string) string {
	labels := strings.Split(name, ".")
	switch {
	case len(labels) < 2:
		return "it has a single label"
	case len(name) > 253:
		return "it is longer than 253 characters"
	case strings.Contains(name, "_"):
		return "it has an underscore"
	}
	for _, label := range labels {
		switch {
		case label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-':
			return "it is no host name"
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return "it has other characters than letters, digits and hyphens"
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "its last label is a number"
	}
	return ""
}
