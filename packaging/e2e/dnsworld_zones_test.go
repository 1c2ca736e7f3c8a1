package e2e

import (
	"fmt"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// A stateZone is a zone with the state that all its answers have, and those that have another.
type stateZone struct {
	world.Zone
	want  string // secure, insecure, bogus or error
	other map[string]string
}

// host is what a mail domain has, and more adds a wildcard and an empty non-terminal.
const host = `@ MX 10 mx
mx A 198.51.100.25
_25._tcp.mx TLSA 3 1 1 1111111111111111111111111111111111111111111111111111111111111111
`

const more = `@ TXT "v=spf1 -all"
mx AAAA 2001:db8:2::25
*.wild A 198.51.100.26
_25._tcp.*.wild TXT "no wildcard"
*.wild TLSA 3 1 1 2222222222222222222222222222222222222222222222222222222222222222
a.empty TXT "below an empty non-terminal"
`

// addresses of fronts, of a server that is down, and of one that knows none of the zones.
const (
	frontServfail = "203.0.113.61"
	frontRefused  = "203.0.113.62"
	frontFormerr  = "203.0.113.63"
	frontNotimp   = "203.0.113.64"
	frontDrop     = "203.0.113.65"
	frontSilent   = "203.0.113.66"
	frontNoTCP    = "203.0.113.67"
	down          = "203.0.113.68"
)

func fronts() []world.Front {
	return []world.Front{
		{Address: frontServfail, Mode: world.ServfailTLSA}, {Address: frontRefused, Mode: world.RefusedTLSA},
		{Address: frontFormerr, Mode: world.FormerrTLSA}, {Address: frontNotimp, Mode: world.NotimpTLSA},
		{Address: frontDrop, Mode: world.DropTLSA}, {Address: frontSilent, Mode: world.Silent}, {Address: frontNoTCP, Mode: world.NoTCP},
	}
}

func stateZones() []stateZone {
	now := time.Now()
	zone := func(name, want string, z world.Zone) stateZone {
		z.Name, z.Records = name, host+z.Records
		return stateZone{Zone: z, want: want}
	}
	dane := func(name string, z world.Zone, state string) stateZone {
		s := zone(name, "secure", z)
		s.other = map[string]string{"_25._tcp.mx TLSA": state}
		return s
	}
	// A server that does not answer questions for TLSA records says of no name that it has none. Of nope it says that it does not exist.
	front := func(name, address string) stateZone {
		s := zone(name, "secure", world.Zone{Servers: []string{address}})
		s.other = map[string]string{"@ TLSA": "error", "mx TLSA": "error", "_25._tcp.mx TLSA": "error"}
		return s
	}
	zones := []stateZone{
		zone("good.test", "secure", world.Zone{Records: more}),
		zone("good.example", "secure", world.Zone{Server: world.Knot, Records: more}),
		zone("nsec3.test", "secure", world.Zone{Sign: world.NSEC3, Records: more}),
		zone("nsec3.example", "secure", world.Zone{Server: world.Knot, Sign: world.NSEC3, Records: more}),
		zone("plain.test", "insecure", world.Zone{Sign: world.Unsigned, Records: more}),
		zone("plain.example", "insecure", world.Zone{Sign: world.Unsigned, Server: world.Knot}),
		zone("island.test", "insecure", world.Zone{DS: world.None, Records: more}),
		zone("unknown.example", "insecure", world.Zone{DS: world.Unknown, Server: world.Knot}),
		zone("wrongds.test", "bogus", world.Zone{DS: world.Wrong, Records: more}),
		zone("wrongds.example", "bogus", world.Zone{DS: world.Wrong, Server: world.Knot}),
		zone("stripped.test", "bogus", world.Zone{Sign: world.Unsigned, DS: world.Wrong}),
		zone("expired.test", "bogus", world.Zone{Since: now.Add(-20 * 24 * time.Hour), Until: now.Add(-5 * 24 * time.Hour)}),
		zone("expired.example", "bogus", world.Zone{Server: world.Knot, Sign: world.NSEC3, Since: now.Add(-20 * 24 * time.Hour), Until: now.Add(-5 * 24 * time.Hour)}),
		dane("lapsed.test", world.Zone{Lapsed: "TLSA"}, "bogus"),
		zone("future.test", "bogus", world.Zone{Since: now.Add(5 * 24 * time.Hour), Until: now.Add(20 * 24 * time.Hour)}),
		dane("nosig.test", world.Zone{Change: without("RRSIG TLSA ")}, "bogus"),
		dane("changed.example", world.Zone{Server: world.Knot, Change: replaced("TLSA", "11111111", "33333333")}, "bogus"),
		zone("big.test", "secure", world.Zone{Records: many("_25._tcp.big TLSA 3 1 1 %064x\n", 60)}),
		zone("huge.example", "secure", world.Zone{Server: world.Knot, Records: many("huge TXT \"%0200d\"\n", 200)}),
		front("servfail.test", frontServfail),
		front("refused.test", frontRefused),
		front("formerr.test", frontFormerr),
		front("notimp.test", frontNotimp),
		front("dropped.test", frontDrop),
		front("notcp.test", frontNoTCP),
		zone("lame.test", "error", world.Zone{Servers: []string{world.KnotServer}}),
		zone("halflame.test", "secure", world.Zone{Servers: []string{world.KnotServer, world.BINDServer}}),
		zone("dead.test", "error", world.Zone{Servers: []string{down}}),
		zone("silent.test", "error", world.Zone{Servers: []string{frontSilent}}),
		zone("halfdead.test", "secure", world.Zone{Servers: []string{down, world.BINDServer}}),
	}
	return append(append(zones, cutZones()...), aliasZones()...)
}

// without leaves out the lines that contain a kind of record.
func without(kind string) func(string) string {
	return func(line string) string {
		if strings.Contains(strings.Join(strings.Fields(line), " "), kind) {
			return ""
		}
		return line
	}
}

// replaced changes the data of a type.
func replaced(kind, from, to string) func(string) string {
	return func(line string) string {
		if f := strings.Fields(line); len(f) > 3 && f[3] == kind {
			return strings.Replace(line, from, to, 1)
		}
		return line
	}
}

func many(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// cutZones are zones cut at _tcp, and zones whose NSEC3 skips insecure delegations.
func cutZones() []stateZone {
	const outside = "@ MX 10 mx\nmx A 198.51.100.25\nmx AAAA 2001:db8:2::25\n"
	const inside = "_25 TLSA 3 1 1 1111111111111111111111111111111111111111111111111111111111111111\n"
	// Where an NSEC3 record with the flag Opt-Out proves that a name does not exist, an unsigned delegation may be there (RFC 5155 section 9.2).
	optOut := map[string]string{"nope": "insecure", "_25._tcp.nope": "insecure", "*.wild": "insecure", "_25._tcp.*.wild": "insecure"}
	return []stateZone{
		{Zone: world.Zone{Name: "cut.test", Records: outside}, want: "secure"},
		{Zone: world.Zone{Name: "_tcp.mx.cut.test", Records: inside, Server: world.Knot}, want: "secure"},
		{Zone: world.Zone{Name: "cutplain.test", Records: outside}, want: "secure"},
		{Zone: world.Zone{Name: "_tcp.mx.cutplain.test", Records: inside, Server: world.Knot, Sign: world.Unsigned}, want: "insecure"},
		{Zone: world.Zone{Name: "cutbad.example", Records: outside, Server: world.Knot}, want: "secure"},
		{Zone: world.Zone{Name: "_tcp.mx.cutbad.example", Records: inside, DS: world.Wrong}, want: "bogus"},
		{Zone: world.Zone{Name: "optout.test", Records: host + more, Sign: world.OptOut}, want: "secure", other: optOut},
		{Zone: world.Zone{Name: "below.optout.test", Records: host, Sign: world.Unsigned}, want: "insecure"},
		{Zone: world.Zone{Name: "signed.optout.test", Records: host, Server: world.Knot}, want: "secure"},
		{Zone: world.Zone{Name: "optout.example", Records: host + more, Sign: world.OptOut, Server: world.Knot}, want: "secure", other: optOut},
	}
}

// aliasZones have aliases in every combination of secure, insecure and bogus.
func aliasZones() []stateZone {
	const aliases = `
s CNAME mx.good.test.
i CNAME mx.plain.example.
b CNAME mx.wrongds.test.
e CNAME mx.lame.test.
ss CNAME s.alias.test.
is CNAME s.aliasplain.test.
nowhere CNAME nowhere.good.test.
_25._tcp.s TLSA 3 1 1 1111111111111111111111111111111111111111111111111111111111111111
_25._tcp.t CNAME _25._tcp.mx.good.example.
_25._tcp.ti CNAME _25._tcp.mx.plain.test.
_25._tcp.tb CNAME _25._tcp.mx.nosig.test.
ds DNAME good.test.
di DNAME plain.test.
db DNAME wrongds.test.
*.w CNAME mx.good.example.
self CNAME self
loop1 CNAME loop2
loop2 CNAME loop3
loop3 CNAME loop1
deep DNAME deeper.deep
`
	chain := "chain9 A 198.51.100.25\n"
	for i := range 30 {
		if i != 9 {
			chain += fmt.Sprintf("chain%d CNAME chain%d\n", i, i+1)
		}
	}
	chain += "chain30 A 198.51.100.25\n"
	secure := map[string]string{"i": "insecure", "b": "bogus", "e": "error", "is": "insecure", "_25._tcp.ti": "insecure", "_25._tcp.tb TLSA": "bogus",
		"mx.di": "insecure", "mx.db": "bogus", "self": "error", "loop1": "error", "loop2": "error", "loop3": "error", "chain10": "error", "mx.deep": "error"}
	insecure := map[string]string{"b": "bogus", "e": "error", "_25._tcp.tb TLSA": "bogus", "mx.db": "bogus", "self": "error", "loop1": "error", "loop2": "error", "loop3": "error", "mx.deep": "error"}
	bogus := map[string]string{"e": "error", "self": "error", "loop1": "error", "loop2": "error", "loop3": "error"}
	return []stateZone{
		{Zone: world.Zone{Name: "alias.test", Records: aliases + chain}, want: "secure", other: secure},
		{Zone: world.Zone{Name: "aliasplain.test", Records: aliases, Server: world.Knot, Sign: world.Unsigned}, want: "insecure", other: insecure},
		{Zone: world.Zone{Name: "aliasbad.example", Records: aliases, Server: world.Knot, DS: world.Wrong}, want: "bogus", other: bogus},
	}
}
