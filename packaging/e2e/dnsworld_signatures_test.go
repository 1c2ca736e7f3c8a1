package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/world"
)

// What authoritative servers answer is verified with the zone's keys: signatures by dnssec-signzone, on records, wildcards and denials.
func testSignatures(t *testing.T, w *world.World) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name, keys string
		want       []string // of each server
		until      time.Duration
	}{
		{"_25._tcp.mx.good.test", "secure", []string{"signed 1", "signed 1"}, 30 * day},
		{"_25._tcp.mx.good.example", "secure", []string{"signed 1", "signed 1"}, 30 * day},
		{"_25._tcp.mx.nsec3.test", "secure", []string{"signed 1", "signed 1"}, 30 * day},
		{"any.wild.good.test", "secure", []string{"signed 1", "signed 1"}, 30 * day},
		{"_25._tcp.nope.good.test", "secure", []string{"signed 0", "signed 0"}, 30 * day},
		{"_25._tcp.nope.nsec3.example", "secure", []string{"signed 0", "signed 0"}, 30 * day},
		{"_25._tcp.nope.optout.test", "secure", []string{"signed 0", "signed 0"}, 30 * day},
		{"_25._tcp.mx.cut.test", "secure", []string{"signed 1", "signed 1"}, 30 * day},
		{"_25._tcp.big.big.test", "secure", []string{"signed 60", "signed 60"}, 30 * day},
		{"_25._tcp.t.alias.test", "secure", []string{"signed 0", "signed 0"}, 30 * day},
		{"_25._tcp.mx.lapsed.test", "secure", []string{"expired 1", "expired 1"}, -5 * day},
		{"_25._tcp.mx.changed.example", "secure", []string{"broken 1", "broken 1"}, 0},
		{"_25._tcp.mx.nosig.test", "secure", []string{"unsigned 1", "unsigned 1"}, 0},
		{"_25._tcp.mx.plain.test", "insecure", []string{"unsigned 1", "unsigned 1"}, 0},
		{"_25._tcp.mx.island.test", "insecure", []string{"unchecked 1", "unchecked 1"}, 0},
		// No resolver that validates tells where a bogus zone is.
		{"_25._tcp.mx.expired.test", "", nil, 0},
		{"_25._tcp.mx.wrongds.test", "", nil, 0},
		{"_25._tcp.mx.halflame.test", "secure", []string{"fault", "signed 1"}, 30 * day},
		{"_25._tcp.mx.halfdead.test", "secure", []string{"fault", "signed 1"}, 30 * day},
		{"_25._tcp.mx.servfail.test", "secure", []string{"fault"}, 0},
		{"_25._tcp.mx.dropped.test", "secure", []string{"fault"}, 0},
	} {
		row := &stateRow{name: tt.name, kind: "SERVED"}
		askUs(t, w.Sender, []*stateRow{row}, func(_ *stateRow, a lookAnswer) {
			var got []string
			for _, s := range a.Served {
				if s.Fault != "" {
					got = append(got, "fault")
					continue
				}
				got = append(got, fmt.Sprintf("%s %d", s.Signature, s.Records))
				if off := time.Until(s.Until) - tt.until; tt.until == 0 != s.Until.IsZero() || tt.until != 0 && off.Abs() > time.Hour {
					t.Errorf("%s: valid until %v", tt.name, s.Until)
				}
			}
			slices.Sort(got)
			if a.State != tt.keys || strings.Join(got, ", ") != strings.Join(tt.want, ", ") {
				t.Errorf("%s: keys %s, wanted %s; %v, wanted %v\n%s %+v", tt.name, a.State, tt.keys, got, tt.want, a.Failure, a.Served)
			}
		})
	}
}
