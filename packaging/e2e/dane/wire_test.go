package dane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Types that dnsmessage does not name.
const (
	typeTLSA  dnsmessage.Type = 52
	typeRRSIG dnsmessage.Type = 46
)

// given is one answer to a question for TLSA records. It knows nothing of the product's own reading of DNS.
type given struct {
	set    string        // the records, sorted and joined by "; "; "" is none
	ttl    time.Duration // the longest of the answer, aliases included; of a denial, that of the SOA record's negative TTL
	signed bool          // with a signature that is valid now; a denial counts as signed if it has one
	ad     bool
	rcode  dnsmessage.RCode
}

// ask asks an open UDP socket for the TLSA records of a name.
func ask(c net.Conn, owner string, recursive bool) (given, error) {
	name, err := dnsmessage.NewName(owner + ".")
	if err != nil {
		return given{}, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(rand.N(65536)), RecursionDesired: recursive})
	var edns dnsmessage.ResourceHeader
	err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: typeTLSA, Class: dnsmessage.ClassINET}),
		b.StartAdditionals(), edns.SetEDNS0(1232, dnsmessage.RCodeSuccess, true), b.OPTResource(edns, dnsmessage.OPTResource{}))
	if err != nil {
		return given{}, err
	}
	question, err := b.Finish()
	if err != nil {
		return given{}, err
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return given{}, err
	}
	if _, err := c.Write(question); err != nil {
		return given{}, err
	}
	answer := make([]byte, 4096)
	for {
		n, err := c.Read(answer)
		if err != nil {
			return given{}, err
		}
		if n > 2 && answer[0] == question[0] && answer[1] == question[1] {
			return readAnswer(answer[:n])
		}
	}
}

// readAnswer reads the TLSA records of a message.
func readAnswer(message []byte) (g given, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil {
		return g, err
	}
	g.rcode, g.ad = header.RCode, header.AuthenticData
	if header.Truncated {
		return g, errors.New("truncated")
	}
	if err := p.SkipAllQuestions(); err != nil {
		return g, err
	}
	answers, err := p.AllAnswers()
	if err != nil {
		return g, err
	}
	authorities, err := p.AllAuthorities()
	if err != nil {
		return g, err
	}
	var records []string
	for _, r := range answers {
		g.ttl = max(g.ttl, time.Duration(r.Header.TTL)*time.Second)
		if u, is := r.Body.(*dnsmessage.UnknownResource); is {
			switch {
			case u.Type == typeTLSA && len(u.Data) > 3:
				records = append(records, fmt.Sprintf("%d %d %d %x", u.Data[0], u.Data[1], u.Data[2], u.Data[3:]))
			case u.Type == typeRRSIG && validNow(u.Data, typeTLSA):
				g.signed = true
			}
		}
	}
	if records == nil {
		g.ttl = 0
		for _, r := range authorities {
			switch body := r.Body.(type) {
			case *dnsmessage.SOAResource:
				g.ttl = time.Duration(min(r.Header.TTL, body.MinTTL)) * time.Second
			case *dnsmessage.UnknownResource:
				g.signed = g.signed || body.Type == typeRRSIG && validNow(body.Data, dnsmessage.TypeSOA)
			}
		}
	}
	slices.Sort(records)
	g.set = strings.Join(records, "; ")
	return g, nil
}

// validNow reports whether an RRSIG record covers a type and has not expired (RFC 4034 section 3.1).
func validNow(rrsig []byte, covered dnsmessage.Type) bool {
	if len(rrsig) < 18 || dnsmessage.Type(binary.BigEndian.Uint16(rrsig)) != covered {
		return false
	}
	now := time.Now()
	return now.Before(time.Unix(int64(binary.BigEndian.Uint32(rrsig[8:])), 0)) && !now.Before(time.Unix(int64(binary.BigEndian.Uint32(rrsig[12:])), 0))
}
