package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// TestTimeToNewHandshake measures what mxcert adds to the time that a server needs by itself from the renaming of a file to the
// first handshake with the new certificate. By hand, the certificate is renamed, and systemctl reloads the unit or nothing
// does. The two take turns, so that what else the machine does falls upon both.
func TestTimeToNewHandshake(t *testing.T) {
	ways := [][2]string{{"dovecot", "always"}, {"postfix", "always"}, {"exim", "always"}, {"exim", "auto"}}
	if !wholeTable() {
		ways = ways[:1]
	}
	for _, way := range ways {
		t.Run(strings.Join(way[:], "/"), func(t *testing.T) {
			server, reload := way[0], way[1]
			l := findLayout(t, server, "pair")
			s := beginWith(t, reload, l)
			var serials [2]string
			for i, args := range [][]string{{"renew"}, {"renew", "--now"}} {
				serials[i] = s.report(0, args...).Certificates[0].Keys[0].Serial
				must(t, s.Host, "cp", "-p", l.marks, "/root/"+serials[i])
			}
			load := s.StartLoad(t.Context(), 2, 5*time.Millisecond, endpoints(server)...)
			defer load.Stop()
			var ours, byHand, asked []time.Duration
			for i := range deployments(t) {
				for _, serial := range []string{serials[i%2], serials[1-i%2]} {
					byHand = append(byHand, s.timed(load, l, func() string { s.renameByHand(l, reload, serial); return serial }))
				}
				began := time.Now()
				ours = append(ours, s.timed(load, l, func() string { return s.report(0, "rollback", "mx").Certificates[0].Keys[0].Serial }))
				if at := s.reloading(server); at.After(began) {
					asked = append(asked, at.Sub(s.renamed(l.marks)))
				}
			}
			figure(t, "from the renaming to the first handshake, median of %d: %d ms by mxcert, %d ms by hand; to the begin of the reload %d ms", len(ours), median(ours),
				median(byHand), median(asked))
			if (reload == "always") != (len(asked) == len(ours)) || reload == "auto" && len(asked) > 0 {
				t.Errorf("%d reloads for %d deployments", len(asked), len(ours))
			}
			if median(ours) > 2*median(byHand)+2000 {
				t.Errorf("mxcert: %v; by hand: %v", ours, byHand)
			}
		})
	}
}

// timed is how long after the renaming in a change a handshake showed the certificate of the serial that it gives.
func (s *story) timed(load *mailhost.Load, l layout, change func() string) time.Duration {
	s.t.Helper()
	began := time.Now()
	serial := change()
	return s.firstShown(load, serial, began).Sub(s.renamed(l.marks))
}

// renameByHand puts a kept certificate into the place of the one that is served.
func (s *story) renameByHand(l layout, reload, serial string) {
	s.t.Helper()
	script := `mkdir -p "$1.by-hand"; cp -p "/root/$2" "$1.by-hand/new"; mv -fT "$1.by-hand/new" "$1"`
	if reload == "always" {
		script += "; systemctl reload " + unitOf(l.server)
	}
	must(s.t, s.Host, "sh", "-ec", script, "sh", l.marks, serial)
}

// unitReloading is the MESSAGE_ID under which systemd journals that a reload begins.
const unitReloading = "d34d037fff1847e6ae669a370e694725"

// reloading is when the last reload of a server began.
func (s *story) reloading(server string) time.Time {
	s.t.Helper()
	must(s.t, s.Host, "journalctl", "--sync")
	out := must(s.t, s.Host, "journalctl", "-q", "-n1", "-o", "json", "--output-fields=__REALTIME_TIMESTAMP", "MESSAGE_ID="+unitReloading, "UNIT="+workerOf(server))
	var entry struct {
		Microseconds int64 `json:"__REALTIME_TIMESTAMP,string"`
	}
	if out != "" {
		s.check(json.Unmarshal([]byte(out), &entry))
	}
	return time.UnixMicro(entry.Microseconds)
}
