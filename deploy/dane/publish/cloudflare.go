package publish

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// cloudflare is the API of Cloudflare's DNS (https://developers.cloudflare.com/api/resources/dns/subresources/records/). It has records, not
// record sets: each has a number and a TTL of its own.
type cloudflare struct{ *api }

const (
	// cloudflarePages is how many pages of a list are read: far more than a name can have.
	cloudflarePages = 20
	// cloudflarePage is how many records a page has at most.
	cloudflarePage = 100
	// The TTLs that it takes. 1 says that Cloudflare chooses, which is 300.
	cloudflareShortest, cloudflareLongest = 60, 86400
	cloudflareAutomatic                   = 300
)

func newCloudflare(account API) (service, error) {
	a, err := newAPI("Cloudflare", "cloudflare", "https://api.cloudflare.com/client/v4", account, "Authorization", "Bearer %s")
	if err != nil {
		return nil, err
	}
	a.words = cloudflareWords
	return cloudflare{a}, nil
}

func (s cloudflare) replaces() bool { return false }

// cloudflareAnswer is around every answer.
type cloudflareAnswer[T any] struct {
	Success bool              `json:"success"`
	Errors  []cloudflareError `json:"errors"`
	Result  T                 `json:"result"`
	Info    struct {
		Page  int `json:"page"`
		Pages int `json:"total_pages"`
	} `json:"result_info"`
}

type cloudflareError struct {
	Code    int               `json:"code"`
	Message string            `json:"message"`
	Chain   []cloudflareError `json:"error_chain"`
}

type cloudflareRecord struct {
	ID      string          `json:"id,omitempty"`
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	TTL     uint32          `json:"ttl"`
	Content string          `json:"content,omitempty"`
	Data    *cloudflareData `json:"data,omitempty"`
}

type cloudflareData struct {
	Usage        uint8  `json:"usage"`
	Selector     uint8  `json:"selector"`
	MatchingType uint8  `json:"matching_type"`
	Certificate  string `json:"certificate"`
}

// ask calls the API, and takes an answer without success for an error, whatever its status.
func ask[T any](ctx context.Context, s cloudflare, r request) (cloudflareAnswer[T], error) {
	var answer cloudflareAnswer[T]
	if err := s.call(ctx, r, &answer); err != nil || answer.Success {
		return answer, err
	}
	said, conflict := cloudflareSaid(answer.Errors)
	if conflict {
		return answer, s.fail(r, "dns-conflict", true, "it refuses: "+s.quote(said), "mxcert tries again at the next pass")
	}
	return answer, s.fail(r, "dns-publish", false, "it refuses: "+s.quote(said), "look at the records at this name in the service")
}

// zone finds the number of a zone.
func (s cloudflare) zone(ctx context.Context, at dane.Place) (string, error) {
	type zone struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Type   string `json:"type"`
		Status string `json:"status"`
	}
	name, r := strings.TrimSuffix(at.Zone, "."), request{method: http.MethodGet, path: []string{"zones"}, subject: at.Name}
	r.query = url.Values{"name": {name}, "per_page": {"50"}}
	answer, err := ask[[]zone](ctx, s, r)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(answer.Result, func(z zone) bool { return z.Name == name })
	if i < 0 {
		return "", s.fail(r, "dns-zone", false, "it has no zone "+name+" that the token may see", "check the account, and that the token has the permission Zone > Zone > Read for this zone")
	}
	z := answer.Result[i]
	switch {
	case z.ID == "" || len(z.ID) > 64 || strings.Trim(z.ID, "0123456789abcdef") != "":
		return "", s.fail(r, "dns-unreachable", false, fmt.Sprintf("it names zone %s %.70q, which is no number of a zone", name, z.ID), "check the address of the API")
	case z.Type == "secondary":
		return "", s.fail(r, "dns-zone", false, "zone "+name+" is a copy there, which the next transfer overwrites", "choose the service that is the zone's primary in dane.publisher")
	}
	return z.ID, nil
}

// signed refuses a zone that Cloudflare does not sign, or that has no DS record yet.
func (s cloudflare) signed(ctx context.Context, at dane.Place, zone string) error {
	r := request{method: http.MethodGet, path: []string{"zones", zone, "dnssec"}, subject: at.Name}
	answer, err := ask[struct {
		Status string `json:"status"`
	}](ctx, s, r)
	if err != nil || answer.Result.Status == "active" {
		return err
	}
	return s.fail(r, "dns-unsigned", answer.Result.Status == "pending", fmt.Sprintf("DNSSEC of zone %s is %.40q there, not active; senders use no TLSA records of such a zone", strings.TrimSuffix(at.Zone, "."), answer.Result.Status),
		"enable DNSSEC for the zone at Cloudflare, and give the DS record to the registrar")
}

func (s cloudflare) read(ctx context.Context, at dane.Place) (set, error) {
	zone, err := s.zone(ctx, at)
	if err != nil {
		return set{}, err
	}
	return s.records(ctx, at, zone)
}

func (s cloudflare) records(ctx context.Context, at dane.Place, zone string) (set, error) {
	var found set
	name := strings.TrimSuffix(at.Name, ".")
	for page := 1; ; page++ {
		r := request{method: http.MethodGet, path: []string{"zones", zone, "dns_records"}, subject: at.Name}
		r.query = url.Values{"name.exact": {name}, "per_page": {strconv.Itoa(cloudflarePage)}, "page": {strconv.Itoa(page)}}
		answer, err := ask[[]cloudflareRecord](ctx, s, r)
		if err != nil {
			return set{}, err
		}
		for _, record := range answer.Result[:min(len(answer.Result), cloudflarePage)] {
			if strings.EqualFold(record.Name, name) {
				found.note(record)
			}
		}
		if page >= answer.Info.Pages && len(answer.Result) <= cloudflarePage {
			return found, nil
		}
		if page == cloudflarePages || len(answer.Result) > cloudflarePage {
			return set{}, s.fail(r, "dns-unreachable", false, fmt.Sprintf("its list has more than %d records", cloudflarePages*cloudflarePage), "check the address of the API")
		}
	}
}

// note adds a record of the name. The TTL of the set is the longest.
func (s *set) note(record cloudflareRecord) {
	switch record.Type {
	case "CNAME":
		s.alias = record.Content
	case "TLSA":
		if record.TTL == 1 {
			record.TTL = cloudflareAutomatic
		}
		s.ttl = max(s.ttl, time.Duration(record.TTL)*time.Second)
		h := held{raw: record.Content, id: record.ID}
		if d := record.Data; d != nil {
			h.raw = fmt.Sprintf("%d %d %d %s", d.Usage, d.Selector, d.MatchingType, d.Certificate)
		}
		var err error
		h.TLSA, err = resolve.ParseTLSA(h.raw)
		h.foreign = err != nil
		s.records = append(s.records, h)
	}
}

// write makes the whole change with one request, which happens as a whole or not at all.
func (s cloudflare) write(ctx context.Context, at dane.Place, todo change) error {
	zone, err := s.zone(ctx, at)
	if err != nil {
		return err
	}
	type number struct {
		ID string `json:"id"`
	}
	batch := struct {
		Deletes []number           `json:"deletes,omitempty"`
		Posts   []cloudflareRecord `json:"posts,omitempty"`
	}{}
	for _, h := range todo.before.records {
		if !h.foreign && contains(todo.remove, h.TLSA) {
			batch.Deletes = append(batch.Deletes, number{h.id})
		}
	}
	for _, r := range todo.add {
		data := &cloudflareData{Usage: r.Usage, Selector: r.Selector, MatchingType: r.MatchingType, Certificate: hex.EncodeToString(r.Data)}
		ttl := min(max(uint32(todo.ttl/time.Second), cloudflareShortest), cloudflareLongest)
		batch.Posts = append(batch.Posts, cloudflareRecord{Name: strings.TrimSuffix(at.Name, "."), Type: "TLSA", TTL: ttl, Data: data})
	}
	if len(batch.Posts) > 0 {
		if err := s.signed(ctx, at, zone); err != nil {
			return err
		}
	}
	_, err = ask[json.RawMessage](ctx, s, request{method: http.MethodPost, path: []string{"zones", zone, "dns_records", "batch"}, body: batch, subject: at.Name})
	return err
}

// probe cannot test whether the token may write without a change.
func (s cloudflare) probe(ctx context.Context, at dane.Place) error {
	zone, err := s.zone(ctx, at)
	if err != nil {
		return err
	}
	return s.signed(ctx, at, zone)
}

// cloudflareWords lists the errors of an answer.
func cloudflareWords(body []byte) (said string, conflict bool) {
	var answer cloudflareAnswer[json.RawMessage]
	if json.Unmarshal(body, &answer) != nil {
		return "", false
	}
	return cloudflareSaid(answer.Errors)
}

// cloudflareSaid puts errors into one line. That a record is there already, or not any more, is a conflict.
func cloudflareSaid(list []cloudflareError) (said string, conflict bool) {
	var all []string
	for _, e := range list {
		all = append(all, fmt.Sprintf("%s (%d)", e.Message, e.Code))
		for _, cause := range e.Chain {
			all = append(all, fmt.Sprintf("%s (%d)", cause.Message, cause.Code))
		}
		conflict = conflict || e.Code == 81057 || e.Code == 81058 || e.Code == 81044
	}
	return strings.Join(all, "; "), conflict
}
