package dane

import (
	"fmt"
	"strings"
)

const knotHead = `server:
    rundir: /srv/live/%[1]s
    user: root:root
    listen: %[2]s@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: /srv/live/%[1]s
control:
    listen: /srv/live/%[1]s/knot.sock
log:
  - target: stderr
    any: warning
key:
  - id: mxcert.
    algorithm: hmac-sha256
    secret: %[3]s
  - id: test.
    algorithm: hmac-sha256
    secret: %[3]s
`

func (s *servers) knotConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, knotHead, "knot", knotPrimary, tsigSecret)
	b.WriteString(`acl:
  - id: mxcert
    key: mxcert.
    action: update
    update-type: [TXT, TLSA]
  - id: test
    key: test.
    action: [update, transfer]
  - id: copies
    address: 203.0.113.0/24
    action: transfer
policy:
  - id: plain
    single-type-signing: on
    nsec3: off
  - id: hashed
    single-type-signing: on
    nsec3: on
    nsec3-iterations: 0
    nsec3-salt-length: 0
remote:
  - id: unsigned
    address: ` + bindPrimary + `
zone:
`)
	for _, site := range s.of("knot") {
		policy := "plain"
		if site.nsec3 {
			policy = "hashed"
		}
		if site.signing == "later" {
			fmt.Fprintf(&b, "  - domain: %s\n    storage: /srv/live/knot\n    file: %[1]s.signed\n    zonefile-sync: -1\n    zonefile-load: none\n    journal-content: all\n"+
				"    master: unsigned\n    refresh-min-interval: 8\n    refresh-max-interval: 8\n    dnssec-signing: on\n    dnssec-policy: %s\n    acl: copies\n", site.domain(), policy)
			continue
		}
		fmt.Fprintf(&b, "  - domain: %s\n    storage: /srv/live/knot\n    file: %[1]s\n    zonefile-sync: -1\n    dnssec-signing: on\n    dnssec-policy: %s\n    acl: [mxcert, test, copies]\n",
			site.domain(), policy)
	}
	return b.String()
}

// promptConf is a secondary that is told of changes.
func (s *servers) promptConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, knotHead, "prompt", promptSecondary, tsigSecret)
	fmt.Fprintf(&b, "remote:\n  - id: primary\n    address: %s\nacl:\n  - id: primary\n    address: %[1]s\n    action: notify\nzone:\n", bindPrimary)
	for _, site := range s.of("bind") {
		if path := s.frozen[site]; path != "" {
			fmt.Fprintf(&b, "  - domain: %s\n    file: %s\n    zonefile-load: whole\n    journal-content: none\n    semantic-checks: off\n", site.domain(), path)
		} else if !site.onlyMain {
			fmt.Fprintf(&b, "  - domain: %s\n    storage: /srv/live/prompt\n    file: %[1]s\n    master: primary\n    acl: primary\n    zonefile-sync: -1\n", site.domain())
		}
	}
	return b.String()
}
