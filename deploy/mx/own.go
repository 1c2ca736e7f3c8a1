package mx

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"mxcert/acme/resolve"
)

// Own returns the addresses by which senders reach this machine: those of its interfaces, and public ones that a NAT in front of it has.
// Loopback and link-local addresses are not among those of the interfaces, because no sender elsewhere can mean this machine by them.
func Own(public []netip.Addr) ([]netip.Addr, error) {
	list := make([]netip.Addr, 0, len(public))
	for _, a := range public {
		list = append(list, a.Unmap())
	}
	interfaces, err := byNetlink()
	if err != nil { // the service may not open netlink sockets
		interfaces, err = byProc()
	}
	if err != nil {
		return list, fmt.Errorf("the addresses of this host cannot be read: %w", err)
	}
	for _, a := range interfaces {
		if a = a.Unmap(); a.IsGlobalUnicast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, nil
}

func byNetlink() (list []netip.Addr, err error) {
	interfaces, err := net.InterfaceAddrs()
	for _, i := range interfaces {
		if network, ok := i.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(network.IP); ok {
				list = append(list, a)
			}
		}
	}
	return list, err
}

// byProc reads the addresses from proc(5): the local routes of IPv4, and the addresses of IPv6. A kernel without IPv6 lacks the second file.
func byProc() ([]netip.Addr, error) {
	routes, err := os.ReadFile("/proc/self/net/fib_trie")
	if err != nil {
		return nil, err
	}
	six, err := os.ReadFile("/proc/self/net/if_inet6")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return append(localRoutes(string(routes)), inet6(string(six))...), nil
}

// localRoutes finds the addresses with "/32 host LOCAL" below them.
func localRoutes(text string) (list []netip.Addr) {
	var last netip.Addr
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "|--":
			last, _ = netip.ParseAddr(words[1])
		case slices.Equal(words, []string{"/32", "host", "LOCAL"}) && last.IsValid() && !slices.Contains(list, last):
			list = append(list, last)
		}
	}
	return list
}

// inet6 reads lines that begin with the 32 hexadecimal digits of an address.
func inet6(text string) (list []netip.Addr) {
	for line := range strings.Lines(text) {
		digits, _, _ := strings.Cut(line, " ")
		if bytes, err := hex.DecodeString(digits); err == nil {
			if a, ok := netip.AddrFromSlice(bytes); ok {
				list = append(list, a)
			}
		}
	}
	return list
}

// Self returns the name of the host itself, which mail servers say in EHLO unless they are configured otherwise, if DNS gives it one of
// the own addresses and a CA may certify it; otherwise "". The error says that this could not be found out.
func Self(ctx context.Context, resolver *resolve.Resolver, name string, own []netip.Addr) (string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if Uncertifiable(name) != "" {
		return "", nil
	}
	h := lookAtHost(ctx, resolver, name)
	switch {
	case h.has(own):
		return name, nil
	case h.err() != nil:
		return "", h.err()
	}
	return "", nil
}

const hostsFile = "/etc/hosts"

// HostName returns the full name of this host, as the host itself knows it: its host name, or what /etc/hosts says about a short one. It
// is "" if the host knows only a short name.
func HostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(hostsFile)
	if err != nil {
		text = nil
	}
	return fullName(name, string(text))
}

// fullName completes a host name from the text of /etc/hosts: the first name of a line is the canonical one (hosts(5)).
func fullName(name, hosts string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if strings.Contains(name, ".") {
		return name
	}
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(strings.ToLower(line))
		if len(words) < 2 || !slices.Contains(words[1:], name) {
			continue
		}
		for _, full := range words[1:] {
			if strings.HasPrefix(full, name+".") {
				return full
			}
		}
	}
	return ""
}
