package notify

import (
	"net"
	"testing"
)

// TestGreeting: the name in EHLO is one that relays take, also on a host with a short name.
func TestGreeting(t *testing.T) {
	t.Parallel()
	v4, v6 := &net.TCPAddr{IP: net.ParseIP("192.0.2.10")}, &net.TCPAddr{IP: net.ParseIP("fe80::10"), Zone: "eth0"}
	for _, tt := range []struct {
		name  string
		local net.Addr
		want  string
	}{
		{"mx.example.org", v4, "mx.example.org"}, {"mx.example.org.", v6, "mx.example.org"}, {"mx", v4, "[192.0.2.10]"}, {"mx", v6, "[IPv6:fe80::10]"},
		{"", v4, "[192.0.2.10]"}, {"bücher", v4, "[192.0.2.10]"}, {"mx", &net.UnixAddr{}, "mx"}, {"mx\r\nMAIL FROM:<x@y.example>", v4, "mxMAILFROMxy.example"},
	} {
		if got := greeting(tt.name, tt.local); got != tt.want {
			t.Errorf("%q at %s: %q, not %q", tt.name, tt.local, got, tt.want)
		}
	}
}
