package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// desec is the API of deSEC (https://desec.readthedocs.io/en/latest/dns/rrsets.html).
type desec struct{ *api }

// desecLongest is the longest TTL that it takes.
const desecLongest = 86400

func newDeSEC(account API) (service, error) {
	a, err := newAPI("deSEC", "desec", "https://desec.io/api/v1", account, "Authorization", "Token %s")
	if err != nil {
		return nil, err
	}
	a.words = desecWords
	return desec{a}, nil
}

func (s desec) replaces() bool { return true }

// desecRRset is one record set. Records that are empty and not nil delete it.
type desecRRset struct {
	Subname string   `json:"subname"`
	Type    string   `json:"type"`
	TTL     uint32   `json:"ttl,omitempty"`
	Records []string `json:"records"`
}

// rrsets is the address of the record sets of a domain. The final slash matters.
func (s desec) rrsets(at dane.Place) []string {
	return []string{"domains", strings.TrimSuffix(at.Zone, "."), "rrsets", ""}
}

func subname(at dane.Place) string {
	return strings.TrimSuffix(strings.TrimSuffix(at.Name, at.Zone), ".")
}

func (s desec) read(ctx context.Context, at dane.Place) (set, error) {
	var all []desecRRset
	err := s.call(ctx, request{method: http.MethodGet, path: s.rrsets(at), query: url.Values{"subname": {subname(at)}}, subject: at.Name}, &all)
	if err == nil && all == nil {
		err = s.fail(request{subject: at.Name}, "dns-unreachable", false, "its answer is no list of record sets", "check the address of the API")
	}
	var found set
	for _, rrset := range all {
		if rrset.Subname != subname(at) || len(rrset.Records) == 0 {
			continue
		}
		switch rrset.Type {
		case "CNAME":
			found.alias = rrset.Records[0]
		case "TLSA":
			found.ttl = time.Duration(rrset.TTL) * time.Second
			for _, text := range rrset.Records {
				record, err := resolve.ParseTLSA(text)
				found.records = append(found.records, held{TLSA: record, raw: text, foreign: err != nil})
			}
		}
	}
	return found, err
}

// write makes a new record set by POST, which fails if somebody else has made it meanwhile, and changes one by PATCH, which has no condition.
func (s desec) write(ctx context.Context, at dane.Place, todo change) error {
	rrset := desecRRset{Subname: subname(at), Type: "TLSA", TTL: uint32(todo.ttl / time.Second), Records: []string{}}
	for _, h := range todo.after() {
		rrset.Records = append(rrset.Records, h.raw)
	}
	slices.Sort(rrset.Records)
	if len(todo.before.records) > 0 {
		return s.call(ctx, request{method: http.MethodPatch, path: s.rrsets(at), body: []desecRRset{rrset}, subject: at.Name}, nil)
	}
	least, err := s.leastTTL(ctx, at)
	if err != nil {
		return err
	}
	rrset.TTL = min(max(rrset.TTL, least), desecLongest)
	return s.call(ctx, request{method: http.MethodPost, path: s.rrsets(at), body: rrset, subject: at.Name}, nil)
}

// leastTTL is the domain's own minimum: 3600, unless deSEC has permitted less.
func (s desec) leastTTL(ctx context.Context, at dane.Place) (uint32, error) {
	var domain struct {
		Name string `json:"name"`
		Min  uint32 `json:"minimum_ttl"`
	}
	name := strings.TrimSuffix(at.Zone, ".")
	err := s.call(ctx, request{method: http.MethodGet, path: []string{"domains", name, ""}, subject: at.Name}, &domain)
	if err == nil && domain.Name != name {
		err = s.fail(request{subject: at.Name}, "dns-unreachable", false, fmt.Sprintf("it answers about domain %.100q instead of %s", domain.Name, name), "check the address of the API")
	}
	return domain.Min, err
}

// probe cannot test the policy of a token without a change. What it can, read has done.
func (s desec) probe(ctx context.Context, at dane.Place) error {
	_, err := s.leastTTL(ctx, at)
	return err
}

// desecWords collects what an answer says: {"detail": …}, or lists of errors by field.
func desecWords(body []byte) (said string, conflict bool) {
	var document any
	if json.Unmarshal(body, &document) != nil {
		return "", false
	}
	said = strings.Join(sentences(document, 0), " ")
	return said, strings.Contains(said, "Another RRset with the same subdomain and type exists")
}

// sentences returns the strings in a document, the fields in order.
func sentences(document any, depth int) []string {
	var all []string
	if depth > 5 {
		return nil
	}
	switch v := document.(type) {
	case string:
		all = append(all, v)
	case []any:
		for _, item := range v {
			all = append(all, sentences(item, depth+1)...)
		}
	case map[string]any:
		fields := make([]string, 0, len(v))
		for field := range v {
			fields = append(fields, field)
		}
		slices.Sort(fields)
		for _, field := range fields {
			words := sentences(v[field], depth+1)
			if len(words) > 0 && field != "detail" && field != "non_field_errors" {
				words[0] = field + ": " + words[0]
			}
			all = append(all, words...)
		}
	}
	return all
}
