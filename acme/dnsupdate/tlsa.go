package dnsupdate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// TLSA is what a server holds at one name.
type TLSA struct {
	Records []string // in the form of a zone file, the data in lower-case hexadecimal
	TTL     uint32   // in seconds; 0 without records
	Alias   string   // the target, if there is a CNAME record at the name
}

// TLSA asks the server itself for the TLSA records of a name, over TCP, with a question and an answer that are signed. Records that the
// server makes from a wildcard are not at the name and are left out; the server of an unsigned zone does not say which these are. The error
// is an [*Error], or the context's.
func (c Client) TLSA(ctx context.Context, zone, name string) (TLSA, error) {
	question := new(dns.Msg).SetQuestion(name, dns.TypeTLSA)
	question.RecursionDesired = false
	question.SetEdns0(dns.DefaultMsgSize, true) // with signatures, which tell records of a wildcard
	question.SetTsig(c.keyName, c.algorithm, fudge, now())
	answer, err := c.exchange(ctx, question, []string{"tcp"})
	if ctx.Err() != nil {
		return TLSA{}, ctx.Err()
	}
	if err == nil && answer.IsTsig() == nil {
		err = errors.New("it is not signed") // RFC 8945 section 5.4
	}
	known := err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError)
	if !known || !answer.Authoritative {
		return TLSA{}, c.explainQuestion(question, answer, err, zone, name)
	}
	return readTLSA(answer.Answer, dns.CanonicalName(name)), nil
}

// readTLSA reads the answer section of an answer about a name.
func readTLSA(answer []dns.RR, name string) TLSA {
	var found TLSA
	for _, rr := range answer {
		if dns.CanonicalName(rr.Header().Name) != name {
			continue
		}
		switch record := rr.(type) {
		case *dns.TLSA:
			found.TTL = record.Hdr.Ttl
			found.Records = append(found.Records, fmt.Sprintf("%d %d %d %s", record.Usage, record.Selector, record.MatchingType, strings.ToLower(record.Certificate)))
		case *dns.CNAME:
			return TLSA{Alias: dns.CanonicalName(record.Target)}
		case *dns.RRSIG:
			if record.TypeCovered == dns.TypeTLSA && int(record.Labels) < dns.CountLabel(name) { // RFC 4034 section 3.1.3
				return TLSA{}
			}
		}
	}
	return found
}

// explainQuestion says why an answer about a name in a zone is of no use.
func (c Client) explainQuestion(question, answer *dns.Msg, err error, zone, name string) *Error {
	about := question.Copy()
	about.Question[0].Name = zone // what messages are about
	e := c.explain(about, answer, err)
	if e.kind != "dns-update" || answer == nil {
		return e
	}
	switch {
	case answer.Rcode == dns.RcodeRefused:
		e.hint = fmt.Sprintf("let key %s ask the server about the zone: for BIND, allow-query { key %[1]s; }; for Knot, an ACL with action: query and this key", c.keyName)
	case err == nil && answer.Rcode == dns.RcodeSuccess:
		e.Reason = fmt.Sprintf("%s is not authoritative for %s", c.Server, name)
		e.hint = "set DNSUPDATE_NAMESERVER to the primary server of the zone; if the name is in a zone of its own, that zone has to take updates"
	}
	return e
}

// ChangeTLSA removes and adds TLSA records of a name by their values, in one message over TCP. Records are in the form of a zone file. The
// server carries it out only if there is no CNAME record at the name, which would swallow an update without an error (RFC 2136 section
// 3.4.2.2), and, if something is removed, if the name has exactly the TLSA records that are given as present. Otherwise the error is of
// kind "dns-condition". The TTL, in seconds, is that of the whole record set afterwards.
func (c Client) ChangeTLSA(ctx context.Context, zone, name string, present, remove, add []string, ttl uint32) error {
	u := Update{Zone: zone, Without: []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME}}}}
	for list, into := range map[*[]string]*[]dns.RR{&present: &u.Exact, &remove: &u.Remove, &add: &u.Add} {
		for _, text := range *list {
			rr, err := tlsaRecord(name, text, ttl)
			if err != nil {
				return settingError("a TLSA record", err.Error(), "this is a fault of the caller")
			}
			*into = append(*into, rr)
		}
	}
	if len(remove) == 0 {
		u.Exact = nil
	}
	return c.Send(ctx, u)
}

// ProbeTLSA asks whether the server would let this key change TLSA records of a name, without a change: see [Client.Probe].
func (c Client) ProbeTLSA(ctx context.Context, zone, name string) error {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	rr, err := tlsaRecord(name, "3 1 1 "+hex.EncodeToString(random[:]), 0)
	if err != nil {
		return settingError("the name "+name, err.Error(), "this is a fault of the caller")
	}
	return c.Probe(ctx, zone, []dns.RR{rr})
}

// tlsaRecord reads a record in the form of a zone file.
func tlsaRecord(name, text string, ttl uint32) (dns.RR, error) {
	var record dns.TLSA
	record.Hdr = dns.RR_Header{Name: name, Rrtype: dns.TypeTLSA, Class: dns.ClassINET, Ttl: ttl}
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return nil, fmt.Errorf("%.200q is no TLSA record", text)
	}
	for i, into := range []*uint8{&record.Usage, &record.Selector, &record.MatchingType} {
		n, err := strconv.ParseUint(fields[i], 10, 8)
		if err != nil {
			return nil, fmt.Errorf("%.200q is no TLSA record", text)
		}
		*into = uint8(n)
	}
	record.Certificate = strings.ToLower(strings.Join(fields[3:], ""))
	if _, err := hex.DecodeString(record.Certificate); err != nil || record.Certificate == "" {
		return nil, fmt.Errorf("%.200q is no TLSA record", text)
	}
	return &record, nil
}
