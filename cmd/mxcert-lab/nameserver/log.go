package nameserver

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// kept bounds the memory of a lab that runs for days.
const kept = 10_000

// Query is a question that reached a server, answered or not.
type Query struct {
	Time   time.Time
	Server string // address of the server
	UDP    bool
	Name   string // in lower case, with the final dot
	Type   uint16
	RD     bool
}

// Update is an UPDATE message and its result.
type Update struct {
	Time    time.Time
	Server  string
	UDP     bool
	Zone    string   // in lower case, with the final dot
	Key     string   // name of the TSIG key that signed it, "" for none or a bad signature
	Rcode   int      // the answer
	Adds    []string // records to add, in presentation format
	Deletes []string // records, RRsets (class ANY) and names (type ANY) to delete
}

// journal is the log of a world.
type journal struct {
	mu      sync.Mutex
	queries []Query
	updates []Update
	texts   map[string][]string // name → every TXT value that an update added
}

func (j *journal) question(s *Server, m *dns.Msg, udp bool) {
	if m.Opcode != dns.OpcodeQuery {
		return
	}
	q := m.Question[0]
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queries = append(trim(j.queries), Query{
		Time: time.Now(), Server: s.address, UDP: udp, Name: dns.CanonicalName(q.Name), Type: q.Qtype, RD: m.RecursionDesired,
	})
}

func (j *journal) update(s *Server, m *dns.Msg, udp bool, rcode int, signer string) {
	u := Update{Time: time.Now(), Server: s.address, UDP: udp, Zone: dns.CanonicalName(m.Question[0].Name), Key: signer, Rcode: rcode}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, rr := range m.Ns {
		if rr.Header().Class != dns.ClassINET {
			u.Deletes = append(u.Deletes, rr.String())
			continue
		}
		u.Adds = append(u.Adds, rr.String())
		if txt, ok := rr.(*dns.TXT); ok && rcode == dns.RcodeSuccess {
			j.text(txt)
		}
	}
	j.updates = append(trim(j.updates), u)
}

func (j *journal) text(txt *dns.TXT) {
	if j.texts == nil {
		j.texts = map[string][]string{}
	}
	name := dns.CanonicalName(txt.Hdr.Name)
	j.texts[name] = append(trim(j.texts[name]), joinText(txt))
}

// joinText is the value that the strings of a TXT record make together.
func joinText(txt *dns.TXT) string { return strings.Join(txt.Txt, "") }

func trim[T any](entries []T) []T {
	if len(entries) < kept {
		return entries
	}
	return slices.Delete(entries, 0, kept/2)
}

// Queries returns the latest questions (up to 10,000) to all servers, oldest first.
func (w *World) Queries() []Query {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return slices.Clone(w.log.queries)
}

// Updates returns the latest UPDATE messages (up to 10,000) that a server answered, oldest first, including those that it
// refused.
func (w *World) Updates() []Update {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return slices.Clone(w.log.updates)
}

// UpdateCount returns how many UPDATE messages changed a zone or found nothing to change, in all zones if apex is "".
func (w *World) UpdateCount(apex string) int {
	count := 0
	for _, u := range w.Updates() {
		if u.Rcode == dns.RcodeSuccess && (apex == "" || u.Zone == dns.CanonicalName(apex)) {
			count++
		}
	}
	return count
}

// ResetLog forgets questions, updates and the history of TXT values; zones stay as they are.
func (w *World) ResetLog() {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.queries, w.log.updates, w.log.texts = nil, nil, nil
}

// TXT returns the TXT values at a name now, whatever a server's lag.
func (w *World) TXT(name string) []string {
	name = dns.CanonicalName(name)
	w.mu.RLock()
	defer w.mu.RUnlock()
	z := w.zoneOf(name, nil)
	if z == nil {
		return nil
	}
	return texts(z.newest().names[name][dns.TypeTXT])
}

// TXTHistory returns all TXT values that updates added at a name, oldest first, whether or not they still exist.
func (w *World) TXTHistory(name string) []string {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return slices.Clone(w.log.texts[dns.CanonicalName(name)])
}

// Challenges returns the TXT values that exist now for dns-01 (RFC 8555 section 8.4), by name: at every _acme-challenge name,
// and at other names (to which a CNAME leads, for example) if an update since the last ResetLog wrote a TXT record there.
func (w *World) Challenges() map[string][]string {
	w.log.mu.Lock()
	var written []string
	for name := range w.log.texts {
		written = append(written, name)
	}
	w.log.mu.Unlock()
	left := map[string][]string{}
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, z := range w.zones {
		for name, found := range z.newest().names {
			if !strings.HasPrefix(name, "_acme-challenge.") && !slices.Contains(written, name) {
				continue
			}
			if values := texts(found[dns.TypeTXT]); len(values) > 0 {
				left[name] = values
			}
		}
	}
	return left
}
