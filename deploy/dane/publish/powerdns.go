package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// powerDNS is the HTTP API of the PowerDNS Authoritative Server (https://doc.powerdns.com/authoritative/http-api/).
type powerDNS struct{ *api }

func newPowerDNS(account API) (service, error) {
	account.URL = strings.TrimSuffix(strings.TrimRight(account.URL, "/"), "/api/v1")
	a, err := newAPI("PowerDNS", "powerdns", "http://127.0.0.1:8081", account, "X-Api-Key", "%s")
	if err != nil {
		return nil, err
	}
	a.words = func(body []byte) (string, bool) {
		var problem struct {
			Error  string   `json:"error"`
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(body, &problem)
		return strings.Join(append([]string{problem.Error}, problem.Errors...), " "), false
	}
	return powerDNS{a}, nil
}

func (s powerDNS) replaces() bool { return true }

// pdnsZone is what mxcert reads of a zone.
type pdnsZone struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"`
	RRsets []pdnsRRset `json:"rrsets"`
}

type pdnsRRset struct {
	Name       string       `json:"name"`
	Type       string       `json:"type"`
	TTL        uint32       `json:"ttl"`
	ChangeType string       `json:"changetype,omitempty"`
	Records    []pdnsRecord `json:"records"`
}

type pdnsRecord struct {
	Content  string `json:"content"`
	Disabled bool   `json:"disabled"`
}

// zone asks for the record sets at one name.
func (s powerDNS) zone(ctx context.Context, at dane.Place) (pdnsZone, error) {
	var zone pdnsZone
	err := s.call(ctx, request{
		method: http.MethodGet, path: zonePath(at), subject: at.Name,
		query: url.Values{"rrsets": {"true"}, "rrset_name": {at.Name}},
	}, &zone)
	if err == nil && !strings.EqualFold(zone.Name, at.Zone) {
		return zone, s.fail(request{subject: at.Name}, "dns-unreachable", false, fmt.Sprintf("it answers about zone %.100q instead of %s", zone.Name, at.Zone), "check the address of the API")
	}
	return zone, err
}

func zonePath(at dane.Place) []string {
	return []string{"api", "v1", "servers", "localhost", "zones", at.Zone}
}

func (s powerDNS) read(ctx context.Context, at dane.Place) (set, error) {
	zone, err := s.zone(ctx, at)
	var found set
	for _, rrset := range zone.RRsets {
		rrset.note(&found, at)
	}
	return found, err
}

// note adds a record set of the name.
func (r pdnsRRset) note(found *set, at dane.Place) {
	if !strings.EqualFold(r.Name, at.Name) || len(r.Records) == 0 {
		return
	}
	switch r.Type {
	case "CNAME":
		found.alias = r.Records[0].Content
	case "TLSA":
		found.ttl = time.Duration(r.TTL) * time.Second
		for _, record := range r.Records {
			value, err := resolve.ParseTLSA(record.Content)
			found.records = append(found.records, held{TLSA: value, raw: record.Content, disabled: record.Disabled, foreign: err != nil})
		}
	}
}

// readAll returns disabled records too, which only the list of the whole zone has. The list may be long, so it is read piece by piece.
func (s powerDNS) readAll(ctx context.Context, at dane.Place) (found set, err error) {
	r := request{method: http.MethodGet, path: zonePath(at), subject: at.Name}
	r.stream = func(body io.Reader) error {
		decoder := json.NewDecoder(body)
		if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
			return errors.New("it is no object")
		}
		for decoder.More() {
			member, err := decoder.Token()
			if err != nil {
				return err
			}
			if member == "rrsets" {
				return eachRRset(decoder, func(rrset pdnsRRset) { rrset.note(&found, at) })
			}
			var other json.RawMessage
			if err := decoder.Decode(&other); err != nil {
				return err
			}
		}
		return errors.New("it has no rrsets")
	}
	err = s.call(ctx, r, nil)
	return found, err
}

// eachRRset reads an array of record sets one by one. The array has to end: a record set that is cut off must not look like a smaller one.
func eachRRset(decoder *json.Decoder, f func(pdnsRRset)) error {
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return errors.New("its rrsets are no list")
	}
	for decoder.More() {
		var rrset pdnsRRset
		if err := decoder.Decode(&rrset); err != nil {
			return err
		}
		f(rrset)
	}
	_, err := decoder.Token()
	return err
}

func (s powerDNS) write(ctx context.Context, at dane.Place, todo change) error {
	var err error
	if todo.before, err = s.readAll(ctx, at); err != nil { // what is replaced is what is there now, disabled records included
		return err
	}
	rrset := pdnsRRset{Name: at.Name, Type: "TLSA", TTL: uint32(todo.ttl / time.Second), ChangeType: "REPLACE", Records: []pdnsRecord{}}
	for _, h := range todo.after() {
		rrset.Records = append(rrset.Records, pdnsRecord{Content: h.raw, Disabled: h.disabled})
	}
	if len(rrset.Records) == 0 {
		rrset.ChangeType = "DELETE"
	}
	return s.call(ctx, request{method: http.MethodPatch, path: zonePath(at), subject: at.Name, body: map[string]any{"rrsets": []pdnsRRset{rrset}}}, nil)
}

// probe cannot test more than that the key is right and the zone is changed here: the API has one key, which may do everything.
func (s powerDNS) probe(ctx context.Context, at dane.Place) error {
	zone, err := s.zone(ctx, at)
	switch zone.Kind {
	case "Slave", "Secondary", "Consumer":
		return s.fail(request{subject: at.Name}, "dns-zone", false, fmt.Sprintf("zone %s is a copy here (%s), which the next transfer overwrites", at.Zone, zone.Kind), "set the address of the server that is the zone's primary")
	}
	return err
}
