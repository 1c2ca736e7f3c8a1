package publishtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mxcert/acme/resolve"
)

// Cloudflare is a server that speaks the DNS part of Cloudflare's API as its documentation has it: pages, an envelope around each answer,
// errors with numbers, records with numbers of their own, TLSA records in "data" only, and batches that happen as a whole or not at all.
// Unlike the real one it refuses members that it does not know.
type Cloudflare struct {
	hosted
	DNSSEC  string // active unless changed
	PerPage int    // the most records on a page; 100 unless changed
	records []*cloudflareRecord
	next    int
}

type cloudflareRecord struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Content   string          `json:"content"`
	Proxiable bool            `json:"proxiable"`
	Proxied   bool            `json:"proxied"`
	TTL       int             `json:"ttl"`
	Data      *cloudflareTLSA `json:"data,omitempty"`
	Settings  struct{}        `json:"settings"`
	Meta      struct{}        `json:"meta"`
	Comment   *string         `json:"comment"`
	Tags      []string        `json:"tags"`
	Created   string          `json:"created_on"`
	Modified  string          `json:"modified_on"`
}

type cloudflareTLSA struct {
	Usage        *int    `json:"usage"`
	Selector     *int    `json:"selector"`
	MatchingType *int    `json:"matching_type"`
	Certificate  *string `json:"certificate"`
}

// cloudflareInput is a record in a request.
type cloudflareInput struct {
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	TTL     int             `json:"ttl"`
	Data    *cloudflareTLSA `json:"data"`
	Comment string          `json:"comment"`
}

type cloudflareBatch struct {
	Deletes []struct {
		ID string `json:"id"`
	} `json:"deletes"`
	Posts []cloudflareInput `json:"posts"`
}

const cloudflareZone = "023e105f4ecef8ad9ca31a8372d0c353"

// StartCloudflare starts a server with one zone, which is given without the final dot.
func StartCloudflare(t *testing.T, zone, token string) *Cloudflare {
	c := &Cloudflare{hosted: hosted{t: t, zone: zone, token: token}, DNSSEC: "active", PerPage: 100}
	c.start(c.serve)
	return c
}

// Put adds a record, past all rules.
func (c *Cloudflare) Put(_ *testing.T, name string, ttl int, kind, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name = strings.TrimSuffix(name, ".")
	r := c.newRecord(name, kind, value, ttl)
	if tlsa, err := resolve.ParseTLSA(value); kind == "TLSA" && err == nil {
		usage, selector, matching, certificate := int(tlsa.Usage), int(tlsa.Selector), int(tlsa.MatchingType), strings.Fields(value)[3]
		r.Data = &cloudflareTLSA{&usage, &selector, &matching, &certificate}
	}
	c.records = append(c.records, r)
}

func (c *Cloudflare) newRecord(name, kind, value string, ttl int) *cloudflareRecord {
	const then = "2026-01-02T03:04:05.678901Z"
	c.next++
	return &cloudflareRecord{ID: fmt.Sprintf("%032x", c.next), Name: name, Type: kind, Content: value, TTL: ttl, Tags: []string{}, Created: then, Modified: then}
}

// Held returns the records at a name.
func (c *Cloudflare) Held(_ *testing.T, name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, r := range c.records {
		if r.Name == strings.TrimSuffix(name, ".") {
			value := r.Content
			if r.Type == "TLSA" {
				value = strings.ToLower(value)
			}
			all = append(all, r.Type+" "+value)
		}
	}
	return all
}

func cloudflareOK(w http.ResponseWriter, result, info any) {
	answer := map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": result}
	if info != nil {
		answer["result_info"] = info
	}
	reply(w, http.StatusOK, answer)
}

func cloudflareFail(w http.ResponseWriter, status, code int, message string) {
	reply(w, status, map[string]any{"success": false, "errors": []map[string]any{{"code": code, "message": message}}, "messages": []any{}, "result": nil})
}

func (c *Cloudflare) serve(w http.ResponseWriter, r *http.Request) {
	path, found := strings.CutPrefix(r.URL.Path, "/client/v4/zones")
	rest, inZone := strings.CutPrefix(path, "/"+cloudflareZone)
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "):
		cloudflareFail(w, http.StatusBadRequest, 6003, "Invalid request headers")
	case r.Header.Get("Authorization") != "Bearer "+c.token:
		cloudflareFail(w, http.StatusForbidden, 9109, "Invalid access token")
	case found && path == "" && r.Method == http.MethodGet:
		zones := []map[string]any{}
		if r.URL.Query().Get("name") == c.zone {
			zones = append(zones, map[string]any{"id": cloudflareZone, "name": c.zone, "status": "active", "paused": false, "type": "full", "account": map[string]string{"id": "1", "name": "x"}})
		}
		cloudflareOK(w, zones, map[string]int{"count": len(zones), "page": 1, "per_page": 50, "total_count": len(zones), "total_pages": len(zones)})
	case inZone && rest == "/dnssec" && r.Method == http.MethodGet:
		cloudflareOK(w, map[string]any{"status": c.DNSSEC, "algorithm": "13", "dnssec_multi_signer": false, "dnssec_presigned": false}, nil)
	case inZone && rest == "/dns_records" && r.Method == http.MethodGet:
		c.list(w, r)
	case inZone && rest == "/dns_records/batch" && r.Method == http.MethodPost:
		var batch cloudflareBatch
		if err := decode(r, &batch); err != nil {
			cloudflareFail(w, http.StatusBadRequest, 9207, "Request body is invalid: "+err.Error())
			return
		}
		c.change(w, batch)
	default:
		cloudflareFail(w, http.StatusNotFound, 7003, "Could not route to "+r.URL.Path+", perhaps your object identifier is invalid?")
	}
}

func (c *Cloudflare) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page, err1 := strconv.Atoi(q.Get("page"))
	perPage, err2 := strconv.Atoi(q.Get("per_page"))
	if err1 != nil || err2 != nil || page < 1 || perPage < 1 {
		cloudflareFail(w, http.StatusBadRequest, 1004, "DNS Validation Error")
		return
	}
	perPage = min(perPage, c.PerPage)
	all := []*cloudflareRecord{}
	for _, record := range c.records {
		if name := q.Get("name.exact"); name == "" || record.Name == name {
			all = append(all, record)
		}
	}
	from := min((page-1)*perPage, len(all))
	some := all[from:min(from+perPage, len(all))]
	cloudflareOK(w, some, map[string]int{"count": len(some), "page": page, "per_page": perPage, "total_count": len(all), "total_pages": (len(all) + perPage - 1) / perPage})
}

// change makes the whole batch, or nothing of it: first what is deleted, then what is new.
func (c *Cloudflare) change(w http.ResponseWriter, batch cloudflareBatch) {
	after := slices.Clone(c.records)
	deleted, made := []*cloudflareRecord{}, []*cloudflareRecord{}
	for _, d := range batch.Deletes {
		i := slices.IndexFunc(after, func(r *cloudflareRecord) bool { return r.ID == d.ID })
		if i < 0 {
			cloudflareFail(w, http.StatusNotFound, 81044, "Record does not exist.")
			return
		}
		deleted = append(deleted, after[i])
		after = slices.Delete(after, i, i+1)
	}
	for _, input := range batch.Posts {
		record, code, message := c.make(input, after)
		if code != 0 {
			cloudflareFail(w, http.StatusBadRequest, code, message)
			return
		}
		made, after = append(made, record), append(after, record)
	}
	c.records = after
	cloudflareOK(w, map[string]any{"deletes": deleted, "patches": []any{}, "puts": []any{}, "posts": made}, nil)
}

// make makes a new record, or says with which number and words it is refused.
func (c *Cloudflare) make(input cloudflareInput, beside []*cloudflareRecord) (record *cloudflareRecord, code int, message string) {
	d := input.Data
	switch {
	case input.Type != "TLSA":
		return nil, 1004, "DNS Validation Error"
	case d == nil || d.Usage == nil || d.Selector == nil || d.MatchingType == nil || d.Certificate == nil:
		return nil, 9101, "data is a required data field."
	case input.TTL != 1 && (input.TTL < 60 || input.TTL > 86400):
		return nil, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."
	case input.Name != strings.ToLower(input.Name) || !strings.HasSuffix(input.Name, "."+c.zone):
		return nil, 9000, "DNS name is invalid."
	}
	value, err := canonical("TLSA", fmt.Sprintf("%d %d %d %s", *d.Usage, *d.Selector, *d.MatchingType, *d.Certificate))
	if err != nil {
		return nil, 9134, "TLSA certificate must be a valid hex string: " + err.Error()
	}
	for _, other := range beside {
		switch {
		case other.Name == input.Name && other.Type == "CNAME":
			return nil, 81054, "A CNAME record with that host already exists."
		case other.Name == input.Name && other.Type == "TLSA" && strings.EqualFold(other.Content, value):
			return nil, 81058, "An identical record already exists."
		}
	}
	record = c.newRecord(input.Name, "TLSA", value, input.TTL)
	record.Data = d
	return record, 0, ""
}
