package dane

import (
	"fmt"
	"strings"
)

const pdnsConf = `launch=gsqlite3
gsqlite3-database=/srv/live/pdns/pdns.sqlite3
gsqlite3-dnssec=yes
local-address=` + pdnsPrimary + `
socket-dir=/srv/live/pdns
setuid=
setgid=
security-poll-suffix=
dnsupdate=yes
allow-dnsupdate-from=0.0.0.0/0
allow-axfr-ips=0.0.0.0/0
api=yes
api-key=` + apiKey + `
webserver=yes
webserver-address=` + pdnsPrimary + `
webserver-port=8081
webserver-allow-from=0.0.0.0/0
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
loglevel=4
`

func (s *servers) pdnsSetup() string {
	var b strings.Builder
	b.WriteString(`python3 -c 'import sqlite3; sqlite3.connect("pdns.sqlite3").executescript(open("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql").read())'
u="pdnsutil --config-dir=` + live + `pdns"
for key in mxcert test; do $u import-tsig-key $key hmac-sha256 ` + tsigSecret + `; done
`)
	for _, site := range s.of("pdns") {
		fmt.Fprintf(&b, "$u load-zone %[1]s %[1]s\n$u add-zone-key %[1]s ksk active published ecdsa256\n", site.domain())
		fmt.Fprintf(&b, "$u set-meta %[1]s TSIG-ALLOW-DNSUPDATE mxcert test\n$u set-meta %[1]s SOA-EDIT-DNSUPDATE INCREASE\n$u set-meta %[1]s SOA-EDIT-API INCREASE\n$u rectify-zone %[1]s\n", site.domain())
		if site.nsec3 {
			fmt.Fprintf(&b, "$u set-nsec3 %[1]s '1 0 0 -'\n$u rectify-zone %[1]s\n", site.domain())
		}
	}
	return b.String()
}
