// Package dnsupdate changes records of one zone with one message (RFC 2136), which is signed (TSIG, RFC 8945), and explains why
// a server refused it. For TLSA records it also asks the server what it holds.
//
// An [Update] happens as a whole or not at all. It removes and adds records by their values, so that other records of the
// same names stay as they are, and sending it twice is the same as sending it once. So a [Client] may repeat a message over
// TCP if no answer came over UDP. An update with conditions, which may not hold a second time, goes over TCP only. It never
// trusts an answer without a valid signature.
//
// The variables that [New] reads are those of lego's provider rfc2136, DNSUPDATE_… or RFC2136_…; hints of errors name
// them too.
//
// Not supported: GSS-TSIG, SIG(0), unsigned updates. The caller has to find the server that takes the updates of a zone.
package dnsupdate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpLimit is the largest update that goes over UDP: RFC 1035 section 4.2.1 promises 512 octets only.
	udpLimit = 512
	// udpPatience is how long a client waits for an answer over UDP, so that it has time to try TCP.
	udpPatience = 3 * time.Second
	// fudge is how far clocks may differ, in seconds (RFC 8945 section 10).
	fudge = 300
)

// Update is what to change in a zone. The records are only read.
type Update struct {
	Zone string // fully qualified

	// Conditions (RFC 2136 section 2.4). If one of them does not hold, nothing is changed, and the error is of kind
	// "dns-condition".
	InUse   []string // names that must have records of any type
	Exact   []dns.RR // for each name and type in it: these records must be there, and no others
	Without []dns.RR // for each name and type in it: there must be no records, whatever the values

	Remove []dns.RR // exactly these values; it is not an error if one does not exist
	Add    []dns.RR // it is not an error if one exists already; it gets the TTL of this one
}

// message returns the update as it is sent, without the signature.
func (u Update) message() *dns.Msg {
	m := new(dns.Msg).SetUpdate(u.Zone)
	for _, name := range u.InUse {
		m.NameUsed([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name}}})
	}
	m.Used(copied(u.Exact))
	m.RRsetNotUsed(copied(u.Without))
	m.Remove(copied(u.Remove))
	m.Insert(copied(u.Add))
	return m
}

// copied protects the caller's records: the message changes their class and TTL.
func copied(records []dns.RR) []dns.RR {
	out := make([]dns.RR, len(records))
	for i, rr := range records {
		out[i] = dns.Copy(rr)
	}
	return out
}

// Client sends updates to one server, signed with one key. It may be copied, and used by several goroutines.
type Client struct {
	Server    string // "host:port"; must be set before anything is sent
	keyName   string
	algorithm string
	secret    string
	timeout   time.Duration
}

// Send sends the update and returns after the server has carried it out. The error is an [*Error], or the context's.
func (c Client) Send(ctx context.Context, u Update) error {
	networks := []string{"udp", "tcp"}
	if len(u.InUse) > 0 || len(u.Exact) > 0 || len(u.Without) > 0 {
		networks = []string{"tcp"}
	}
	return c.send(ctx, u.message(), networks, dns.RcodeSuccess)
}

// Probe asks whether the server would let this key change the given records of a zone, without changing anything: the
// records must have random values, which cannot be there.
//
// It sends an update whose condition cannot hold, and which only removes those records. A server that would accept such an
// update if the condition held says that it does not hold (NXDOMAIN or NXRRSET).
func (c Client) Probe(ctx context.Context, zone string, records []dns.RR) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	owner := zone
	if len(records) > 0 {
		owner = records[0].Header().Name
	}
	u := Update{Zone: zone, InUse: []string{"mxcert-check-" + hex.EncodeToString(random[:]) + "." + owner}, Remove: records}
	return c.send(ctx, u.message(), []string{"udp", "tcp"}, dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeNXRrset)
}

// send signs and sends a message. Answers with one of the good response codes are a success.
func (c Client) send(ctx context.Context, message *dns.Msg, networks []string, good ...int) error {
	message.SetTsig(c.keyName, c.algorithm, fudge, now())
	answer, err := c.exchange(ctx, message, networks)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && slices.Contains(good, answer.Rcode) {
		if answer.IsTsig() != nil {
			return nil
		}
		err = errors.New("it is not signed") // RFC 8945 section 5.4
	}
	return c.explain(message, answer, err)
}

func now() int64 { return time.Now().Unix() }

// exchange sends over the networks in order until a whole answer comes. A message that is too large for UDP goes over TCP only.
func (c Client) exchange(ctx context.Context, message *dns.Msg, networks []string) (answer *dns.Msg, err error) {
	if message.Len() > udpLimit {
		networks = []string{"tcp"}
	}
	for _, network := range networks {
		timeout := c.timeout
		if network == "udp" {
			timeout = min(timeout, udpPatience)
		}
		answer, err = c.exchangeOver(ctx, network, message.Copy(), timeout)
		if ctx.Err() != nil || answer != nil && !answer.Truncated {
			break
		}
	}
	return answer, err
}

func (c Client) exchangeOver(ctx context.Context, network string, message *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := dns.Client{Net: network, Timeout: timeout, TsigSecret: map[string]string{c.keyName: c.secret}}
	conn, err := client.DialContext(ctx, c.Server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // miekg/dns does not honour a cancellation
	answer, _, err := client.ExchangeWithConnContext(ctx, message, conn)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the reason, rather than the closed connection that follows from it
	}
	return answer, err
}
