package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	newSerial = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d"
	oldSerial = "ffeeddccbbaa99887766554433221100ffeeddcc"
)

var fleetNow = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// says is what a host says about a certificate.
func says(host string, alive bool, onDisk, served string) fleet.Deployed {
	d := fleet.Deployed{Host: host, Alive: alive, Seen: fleetNow.Add(-time.Minute), At: fleetNow.Add(-10 * time.Minute), Certain: true, Wish: fleet.Wish{Keys: []bundle.KeyType{bundle.EC256}}, Keys: map[string]fleet.Deployment{}}
	generation := map[string]int64{newSerial: 7, oldSerial: 6}
	if onDisk != "" {
		d.Keys["ec256"] = fleet.Deployment{Serial: onDisk, Generation: generation[onDisk], NotAfter: fleetNow.AddDate(0, 2, 0), Served: served, At: fleetNow.Add(-4 * time.Minute)}
	}
	return d
}

func seenOf(hosts ...fleet.Deployed) fleetSeen {
	seen := fleetSeen{deployed: map[string][]fleet.Deployed{"mx": hosts}}
	seen.Certificates = []fleet.Newest{{Name: "mx", Key: string(bundle.EC256), Generation: 7, Serial: newSerial, NotAfter: fleetNow.AddDate(0, 2, 0), Host: "mx1"}}
	for _, h := range hosts {
		seen.Hosts = append(seen.Hosts, fleet.HostInfo{Host: h.Host, Alive: h.Alive, Seen: h.Seen, Version: "1.2.0", Recipient: "age10p4j5xm4eyrtgruex90mjpdjymdf3rdq3rwq65g27ypeva670dhse57qhx"})
	}
	return seen
}

// What a host says is compared with the newest certificate; the exit code is 3 as soon as one host that wants it does not serve it.
func TestFleetMatrix(t *testing.T) {
	t.Parallel()
	elsewhere := says("mx2", true, newSerial, "")
	silent := says("mx2", true, newSerial, "")
	silent.Certain, silent.Problem = false, "127.0.0.1:25: connection refused"
	unwanted := says("mx2", true, oldSerial, oldSerial)
	unwanted.Wish.Keys = nil
	for _, tt := range []struct {
		what    string
		host    fleet.Deployed
		matches bool
		reason  string
		code    report.Code
	}{
		{"it serves the newest", says("mx2", true, newSerial, newSerial), true, "", report.CodeOK},
		{"it has the newest, and no endpoint", elsewhere, true, "", report.CodeOK},
		{"its endpoints do not answer", silent, false, "no handshake has shown it yet: 127.0.0.1:25: connection refused", report.CodeFault},
		{"its endpoints show the old one", says("mx2", true, newSerial, oldSerial), false, "its endpoints show another one", report.CodeFault},
		{"it has the old one", says("mx2", true, oldSerial, oldSerial), false, "it has generation 6 on its disk", report.CodeFault},
		{"it has none", says("mx2", true, "", ""), false, "it has none yet", report.CodeFault},
		{"it does not want this key", unwanted, false, "it does not want this type of key", report.CodeOK},
		{"it is away with the newest", says("mx2", false, newSerial, newSerial), true, "the host is away since 2026-11-30 11:59 UTC", report.CodeOK},
		{"it is away with the old one", says("mx2", false, oldSerial, oldSerial), false, "it has generation 6 on its disk; the host is away since 2026-11-30 11:59 UTC", report.CodeFault},
	} {
		r := newFleetReport("berlin", "mx1", seenOf(says("mx1", true, newSerial, newSerial), tt.host), fleet.Health{Up: true, Since: fleetNow}, nil, fleetNow)
		if len(r.Certificates) != 1 || len(r.Certificates[0].Hosts) != 2 || r.Certificates[0].Generation != 7 || r.Certificates[0].Host != "mx1" {
			t.Errorf("%s: %+v", tt.what, r.Certificates)
			continue
		}
		got := r.Certificates[0].Hosts[1]
		if got.Matches != tt.matches || got.Reason != tt.reason || r.code() != tt.code || r.OK != (tt.code == report.CodeOK) {
			t.Errorf("%s: %+v, exit code %d", tt.what, got, r.code())
		}
		if tt.host.Keys["ec256"].Served != "" && got.Age != 240 || tt.host.Keys["ec256"].Served == "" && got.Age != 600 {
			t.Errorf("%s: %d seconds old", tt.what, got.Age)
		}
	}
}

// Without the store, the newest is what any host is known to have, and the exit code says to try later.
func TestFleetMatrixWithoutStore(t *testing.T) {
	t.Parallel()
	seen := seenOf(says("mx1", true, newSerial, newSerial), says("mx2", false, oldSerial, oldSerial))
	seen.Certificates = nil
	since := fleetNow.Add(-3 * time.Hour)
	r := newFleetReport("berlin", "mx1", seen, fleet.Health{Since: since, Reason: "connection refused", Hint: "start etcd"}, fmt.Errorf("ask: %w", state.ErrAway), fleetNow)
	if r.code() != report.CodeTemporary || r.Engine.Up || r.Engine.Since == nil || !r.Engine.Since.Equal(since) || r.Engine.Reason != "connection refused" || r.Engine.Hint != "start etcd" {
		t.Errorf("%+v", r.Engine)
	}
	if reason := r.Certificates[0].Hosts[1].Reason; !strings.HasSuffix(reason, "the host was last seen at 2026-11-30 11:59 UTC") || r.Hosts[1].Alive || r.Hosts[1].Seen == nil {
		t.Errorf("%q, %+v", reason, r.Hosts)
	}
	if c := r.Certificates; len(c) != 1 || c[0].Serial != newSerial || c[0].Generation != 7 || !c[0].Hosts[0].Matches || c[0].Hosts[1].Matches {
		t.Errorf("%+v", c)
	}
	if r := newFleetReport("berlin", "mx1", fleetSeen{}, fleet.Health{Up: true}, nil, fleetNow); r.code() != report.CodeOK || r.Hosts == nil || r.Certificates == nil || r.Recipients == nil || r.Faults == nil {
		t.Errorf("of an empty store: %+v", r)
	}
	if r := newFleetReport("berlin", "mx1", seen, fleet.Health{Up: true, Faults: []string{"forged"}}, nil, fleetNow); r.code() != report.CodeFault {
		t.Errorf("something forged: exit code %d", r.code())
	}
}

// A key that is wanted and that nobody has ordered has a line, too.
func TestFleetMatrixWanted(t *testing.T) {
	t.Parallel()
	both := says("mx1", true, newSerial, newSerial)
	both.Wish.Keys = append(both.Wish.Keys, "rsa2048")
	r := newFleetReport("berlin", "mx1", seenOf(both), fleet.Health{Up: true}, nil, fleetNow)
	if c := r.Certificates; len(c) != 2 || c[1].Key != "rsa2048" || c[1].Serial != "" || c[1].Hosts[0].Matches || c[1].Hosts[0].Reason != "no host has ordered it yet" || r.code() != report.CodeFault {
		t.Errorf("%+v", c)
	}
}

// The matrix fits on 80 columns, whatever hosts are called; hosts that are well share a line.
func TestFleetMatrixOn80Columns(t *testing.T) {
	t.Parallel()
	hosts := []fleet.Deployed{says(strings.Repeat("long-label.", 18)+"example", false, oldSerial, oldSerial)}
	for i := range 12 {
		hosts = append(hosts, says(fmt.Sprintf("mx%d", i+1), true, newSerial, newSerial))
	}
	faults := []string{strings.Repeat("forged ", 20)}
	text := printedFleet(t, newFleetReport("berlin", "mx1", seenOf(hosts...), fleet.Health{Up: true, Since: fleetNow, Faults: faults}, nil, fleetNow))
	for _, want := range []string{"fleet berlin, seen from mx1\n", "answers since 2026-11-30 12:00 UTC", "mx ec256: generation 7, serial 0a1b2c3d4e5f6…", "ordered by mx1",
		"HOST                            WANTED  ON DISK  SERVED   AGE\n", "it has generation 6 on its disk", "the host is away since 2026-11-30 11:59 UTC", "  and 4 more serve the newest one\n", "and 4 more are alive\n", "60 s ago", "yes     newest   newest   4 min"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "newest   newest"); n != mostWell {
		t.Errorf("%d lines of hosts that are well", n)
	}
	for i := range hosts {
		hosts[i].Alive = i == 1 // this host; the others nobody knows
	}
	text = printedFleet(t, newFleetReport("berlin", "mx1", seenOf(hosts...), fleet.Health{Since: fleetNow, Reason: strings.Repeat("refused ", 20), Faults: faults}, state.ErrAway, fleetNow))
	for _, want := range []string{"the store cannot be used since 2026-11-30 12:00 UTC", "HOST                            LAST SEEN\n", "mx1                             this host\n",
		"mx12                            2026-11-30 11:59 UTC\n", "the host was last seen at 2026-11-30 11:59 UTC"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "away") || strings.Contains(text, "alive") {
		t.Errorf("it says who is at work, which nobody knows:\n%s", text)
	}
}

// printedFleet prints a report, and checks that each line fits on 80 columns.
func printedFleet(t *testing.T, r *fleetReport) string {
	t.Helper()
	var text bytes.Buffer
	printFleet(sheet{Writer: &text, width: 80, paint: func(s, _ string) { text.WriteString(s) }}, r, fleetNow)
	for line := range strings.Lines(text.String()) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("too long: %s", line)
		}
	}
	return text.String()
}

// TestHeldByTheService: the commands of a fleet ask no daemon, so their errors speak of none.
func TestHeldByTheService(t *testing.T) {
	t.Parallel()
	h := held{"age": "LoadCredentialEncrypted=age"}
	err := h.explain("cred:age", errors.New("unreadable"), "fleet status")
	if err.Error() != "systemd hands cred:age only to mxcert.service (LoadCredentialEncrypted=age)" ||
		report.HintOf(err) != "give them to the command: systemd-run --pipe --wait --quiet -p LoadCredentialEncrypted=age mxcert fleet status" {
		t.Errorf("%v; %s", err, report.HintOf(err))
	}
	h = held{"age": "SetCredential=age"}
	if hint := report.HintOf(h.explain("cred:age", errors.New("unreadable"), "fleet status")); hint != "mxcert status shows what the daemon knows of the fleet" {
		t.Error(hint)
	}
}
