package publishtest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// DeSEC is a server that speaks the API of deSEC as its documentation and its source have it (docs/dns/rrsets.rst, rate-limits.rst and
// serializers/records.py of desec-stack): final slashes, a minimum TTL, canonical values, no duplicates, no record set beside a CNAME, POST
// for new record sets only. Unlike the real one it refuses members that it does not know.
type DeSEC struct {
	hosted
	// MinimumTTL is the domain's; 3600 unless changed.
	MinimumTTL int
	sets       map[[2]string]*desecSet // by subname and type
}

type desecSet struct {
	Created string   `json:"created"`
	Domain  string   `json:"domain"`
	Subname string   `json:"subname"`
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Records []string `json:"records"`
	TTL     int      `json:"ttl"`
	Touched string   `json:"touched"`
}

// desecInput is a record set in a request. A member that is absent is nil.
type desecInput struct {
	Subname *string   `json:"subname"`
	Type    *string   `json:"type"`
	TTL     *int      `json:"ttl"`
	Records *[]string `json:"records"`
}

// StartDeSEC starts a server with one domain, which is given without the final dot.
func StartDeSEC(t *testing.T, domain, token string) *DeSEC {
	d := &DeSEC{hosted: hosted{t: t, zone: domain, token: token}, MinimumTTL: 3600, sets: map[[2]string]*desecSet{}}
	d.start(d.serve)
	return d
}

// Put adds a record, past all rules.
func (d *DeSEC) Put(t *testing.T, name string, ttl int, kind, value string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	value, _ = strings.CutSuffix(value, "\n")
	if fine, err := canonical(kind, value); err == nil {
		value = fine
	}
	key := [2]string{d.subnameOf(name), kind}
	if d.sets[key] == nil {
		d.sets[key] = d.newSet(key, ttl)
	}
	d.sets[key].Records = append(d.sets[key].Records, value)
}

// Held returns the records at a name.
func (d *DeSEC) Held(_ *testing.T, name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for key, set := range d.sets {
		for _, r := range set.Records {
			if key[0] == d.subnameOf(name) {
				all = append(all, key[1]+" "+r)
			}
		}
	}
	return all
}

func (d *DeSEC) newSet(key [2]string, ttl int) *desecSet {
	const then = "2026-01-02T03:04:05.678901Z"
	return &desecSet{Created: then, Touched: then, Domain: d.zone, Subname: key[0], Name: strings.TrimPrefix(key[0]+"."+d.zone+".", "."), Type: key[1], TTL: ttl}
}

func (d *DeSEC) serve(w http.ResponseWriter, r *http.Request) {
	domain, found := strings.CutPrefix(r.URL.Path, "/api/v1/domains/")
	domain, rest, _ := strings.Cut(domain, "/")
	switch {
	case r.Header.Get("Authorization") == "":
		reply(w, http.StatusUnauthorized, map[string]string{"detail": "Authentication credentials were not provided."})
	case r.Header.Get("Authorization") != "Token "+d.token:
		reply(w, http.StatusUnauthorized, map[string]string{"detail": "Invalid token."})
	case !found || domain != d.zone || rest != "" && rest != "rrsets/" || !strings.HasSuffix(r.URL.Path, "/"):
		reply(w, http.StatusNotFound, map[string]string{"detail": "Not found."})
	case rest == "" && r.Method == http.MethodGet:
		reply(w, http.StatusOK, map[string]any{
			"created": "2026-01-02T03:04:05.678901Z", "published": "2026-01-02T03:04:05.678901Z", "touched": "2026-01-02T03:04:05.678901Z", "name": d.zone, "minimum_ttl": d.MinimumTTL,
			"keys": []map[string]any{{"dnskey": "257 3 13 WFRl60...", "ds": []string{"6006 13 2 f34b75..."}, "flags": 257, "keytype": "csk", "managed": true}},
		})
	case rest == "rrsets/" && r.Method == http.MethodGet:
		d.list(w, r)
	case rest == "rrsets/" && r.Method == http.MethodPost:
		var one desecInput
		if err := decode(r, &one); err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"detail": "JSON parse error - " + err.Error()})
			return
		}
		d.change(w, r, []desecInput{one}, false)
	case rest == "rrsets/" && (r.Method == http.MethodPatch || r.Method == http.MethodPut):
		var several []desecInput
		if err := decode(r, &several); err != nil {
			reply(w, http.StatusBadRequest, map[string][]string{"non_field_errors": {"Expected a list of items: " + err.Error()}})
			return
		}
		d.change(w, r, several, true)
	default:
		reply(w, http.StatusMethodNotAllowed, map[string]string{"detail": fmt.Sprintf("Method %q not allowed.", r.Method)})
	}
}

func (d *DeSEC) list(w http.ResponseWriter, r *http.Request) {
	all := []*desecSet{}
	for key, set := range d.sets {
		if (!r.URL.Query().Has("subname") || r.URL.Query().Get("subname") == key[0]) && (!r.URL.Query().Has("type") || r.URL.Query().Get("type") == key[1]) {
			all = append(all, set)
		}
	}
	reply(w, http.StatusOK, all)
}

// change makes all changes of a request, or none.
func (d *DeSEC) change(w http.ResponseWriter, r *http.Request, inputs []desecInput, many bool) {
	problems, bad := make([]map[string][]string, len(inputs)), false
	for i, input := range inputs {
		problems[i] = d.check(r.Method, input)
		bad = bad || len(problems[i]) > 0
	}
	switch {
	case bad && many:
		reply(w, http.StatusBadRequest, problems)
		return
	case bad:
		reply(w, http.StatusBadRequest, problems[0])
		return
	}
	changed := []*desecSet{}
	for _, input := range inputs {
		key := [2]string{*input.Subname, *input.Type}
		set := d.sets[key]
		if set == nil {
			set = d.newSet(key, 0)
		}
		if input.TTL != nil {
			set.TTL = *input.TTL
		}
		if input.Records != nil {
			set.Records = nil
			for _, value := range *input.Records {
				value, _ = canonical(key[1], value)
				set.Records = append(set.Records, value)
			}
		}
		delete(d.sets, key)
		if len(set.Records) > 0 {
			d.sets[key] = set
			changed = append(changed, set)
		}
	}
	if many {
		reply(w, http.StatusOK, changed)
	} else {
		reply(w, http.StatusCreated, changed[0])
	}
}

var desecSubname = regexp.MustCompile(`^([*]|([*][.])?([a-z0-9_-]{1,63}[.])*[a-z0-9_-]{1,63})$`) //nolint:gochecknoglobals // a constant

// check returns the errors of one record set, by member.
func (d *DeSEC) check(method string, input desecInput) map[string][]string {
	required := []string{"This field is required."}
	problems := map[string][]string{}
	if input.Subname == nil || input.Type == nil {
		return map[string][]string{"type": required}
	}
	key := [2]string{*input.Subname, *input.Type}
	existing := d.sets[key]
	remove := input.Records != nil && len(*input.Records) == 0
	switch {
	case !desecSubname.MatchString(key[0]):
		problems["subname"] = []string{"Subname can only use (lowercase) a-z, 0-9, ., -, and _, may start with a '*.', or just be '*'."}
	case key[1] != "TLSA":
		problems["type"] = []string{"The " + key[1] + " RR set type is currently unsupported."}
	case method == http.MethodPost && existing != nil:
		problems["non_field_errors"] = []string{"Another RRset with the same subdomain and type exists for this domain. (Try modifying it.)"}
	case method == http.MethodPost && remove:
		problems["records"] = []string{"This field must not be empty when using POST."}
	case !remove && d.sets[[2]string{key[0], "CNAME"}] != nil:
		problems["non_field_errors"] = []string{"RRset with conflicting type present: database (CNAME). (No other RRsets are allowed alongside CNAME.)"}
	case input.TTL == nil && (method != http.MethodPatch || existing == nil && !remove):
		problems["ttl"] = required
	case input.Records == nil && (method != http.MethodPatch || existing == nil):
		problems["records"] = required
	case input.TTL != nil && *input.TTL < d.MinimumTTL:
		problems["ttl"] = []string{fmt.Sprintf("Ensure this value is greater than or equal to %d.", d.MinimumTTL)}
	case input.TTL != nil && *input.TTL > 86400:
		problems["ttl"] = []string{"Ensure this value is less than or equal to 86400."}
	}
	if input.Records == nil {
		return problems
	}
	var seen []string
	for _, value := range *input.Records {
		fine, err := canonical(key[1], value)
		switch {
		case err != nil:
			problems["non_field_errors"] = []string{"Cannot parse record contents: " + err.Error()}
		case slices.Contains(seen, fine):
			problems["non_field_errors"] = []string{"Duplicate: records must be semantically unique"}
		}
		seen = append(seen, fine)
	}
	return problems
}
