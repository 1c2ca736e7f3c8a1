package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// verifyReport is the document of `verify --json`. Scripts depend on its fields.
type verifyReport struct {
	OK       bool           `json:"ok"`
	At       *time.Time     `json:"at,omitempty"` // the time that was judged, if it is not now
	Hosts    []hostReport   `json:"hosts"`
	Domains  []domainReport `json:"domains"`
	Commands []string       `json:"commands,omitempty"` // of other tools, for a shell
}

type hostReport struct {
	MX         string                         `json:"mx"`
	Domain     string                         `json:"domain,omitempty"` // whose MX record names it
	Address    string                         `json:"address"`
	Port       int                            `json:"port"`
	Validator  string                         `json:"validator"` // the resolver whose word about DNSSEC counts; "" if there is none
	TLSA       []tlsaReport                   `json:"tlsa"`
	Handshakes []handshakeReport              `json:"handshakes"`
	SCTs       []sctReport                    `json:"scts"`
	Verdicts   map[verdict.Kind]verdictReport `json:"verdicts"`
	Findings   []finding.Finding              `json:"findings"`

	unserved bool // an own endpoint does not show the current certificate; that counts whatever kinds do
}

type tlsaReport struct {
	Name    string        `json:"name"`
	State   resolve.State `json:"state"`
	Records []string      `json:"records"` // as in a zone file: usage, selector, matching type, data
}

type handshakeReport struct {
	ServerName string  `json:"server_name"`
	Key        string  `json:"key"`
	Serial     string  `json:"serial"`
	NotAfter   string  `json:"not_after,omitempty"`
	TLS        string  `json:"tls,omitempty"`
	Cipher     string  `json:"cipher,omitempty"`
	Chain      int     `json:"chain_length"`
	Seconds    float64 `json:"seconds"`
	Matches    bool    `json:"matches"`
	Error      string  `json:"error,omitempty"`
	Kind       string  `json:"kind,omitempty"` // of the error

	algorithm string // of the leaf's key
}

type verdictReport struct {
	Result     verdict.Result `json:"result"`
	Action     verdict.Action `json:"action"` // "" if it was not judged
	Type       string         `json:"type"`   // of RFC 8460; "" if nothing failed
	Reason     string         `json:"reason"`
	NotJudged  bool           `json:"not_judged,omitempty"`  // n/a, because mxcert cannot know
	NotCounted string         `json:"not_counted,omitempty"` // why this failure does not count for ok and the exit code
}

type domainReport struct {
	Domain    string                         `json:"domain"`
	MX        []mxReport                     `json:"mx"`
	DNSSEC    resolve.State                  `json:"dnssec"` // of the MX records
	Validator string                         `json:"validator"`
	STS       stsReport                      `json:"sts"`
	Verdicts  map[verdict.Kind]verdictReport `json:"verdicts"`
	Findings  []finding.Finding              `json:"findings"`
}

type mxReport struct {
	Host       string `json:"host"`
	Preference uint16 `json:"preference"`
}

type stsReport struct {
	ID     string      `json:"id"`
	Mode   mtasts.Mode `json:"mode"` // "" if there is no usable policy; then reason says why
	MaxAge int64       `json:"max_age,omitempty"`
	MX     []string    `json:"mx"`
	Type   string      `json:"type"`
	Reason string      `json:"reason"`
}

func newVerifyReport(seen sight, task verifyTask) verifyReport {
	r := verifyReport{Hosts: []hostReport{}, Domains: []domainReport{}}
	if at := task.options.At; !at.IsZero() {
		r.At = &at
	}
	for _, d := range seen.domains {
		r.Domains = append(r.Domains, newDomainReport(d, cmp.Or(task.options.At, time.Now())))
	}
	for _, h := range seen.hosts {
		host := newHostReport(h)
		host.SCTs = sctsOf(h, task.logs, cmp.Or(task.options.At, time.Now()))
		r.Hosts = append(r.Hosts, host)
	}
	return r
}

func newDomainReport(d survey.Domain, at time.Time) domainReport {
	r := domainReport{Domain: d.Domain, MX: []mxReport{}, DNSSEC: d.MX.At(at), Validator: d.MX.Validator, Verdicts: newVerdictReports(d.Verdicts), Findings: slices.Concat([]finding.Finding{}, d.Findings),
		STS: stsReport{ID: d.Policy.ID, MX: []string{}, Type: d.Policy.Type, Reason: d.Policy.Reason}}
	for _, mx := range d.MX.Records {
		r.MX = append(r.MX, mxReport(mx))
	}
	if p := d.Policy.Policy; p != nil {
		r.STS.Mode, r.STS.MaxAge, r.STS.MX = p.Mode, int64(p.MaxAge/time.Second), slices.Concat(r.STS.MX, p.MX)
	}
	return r
}

func newHostReport(h survey.Host) hostReport {
	r := hostReport{MX: h.Host, Domain: h.Domain, Port: h.Port, Validator: validatorOf(h), TLSA: []tlsaReport{}, Handshakes: []handshakeReport{}, SCTs: []sctReport{},
		Verdicts: newVerdictReports(h.Verdicts), Findings: slices.Concat([]finding.Finding{}, h.Findings)}
	if h.Address.IsValid() {
		r.Address = h.Address.String()
	}
	for _, base := range h.Bases {
		set := tlsaReport{Name: base.TLSA.Name, State: base.TLSA.State, Records: []string{}}
		for _, record := range base.TLSA.Records {
			set.Records = append(set.Records, presentation(record))
		}
		r.TLSA = append(r.TLSA, set)
	}
	for _, s := range h.Handshakes {
		r.Handshakes = append(r.Handshakes, newHandshakeReport(s))
	}
	return r
}

// validatorOf returns who validated what was asked about a host.
func validatorOf(h survey.Host) string {
	if h.MX != nil && h.MX.Validator != "" {
		return h.MX.Validator
	}
	for _, a := range h.Addresses {
		if a.Validator != "" {
			return a.Validator
		}
	}
	return ""
}

func newVerdictReports(verdicts map[verdict.Kind]verdict.Verdict) map[verdict.Kind]verdictReport {
	all := map[verdict.Kind]verdictReport{}
	for _, kind := range verdict.Kinds {
		v, ok := verdicts[kind]
		if !ok {
			v = verdict.Verdict{Result: verdict.NotApplicable, Reason: "it was not looked at", NotJudged: true}
		}
		all[kind] = verdictReport{Result: v.Result, Action: v.Action, Type: v.Type, Reason: v.Reason, NotJudged: v.NotJudged}
	}
	return all
}

func newHandshakeReport(s verdict.Handshake) handshakeReport {
	shake := handshakeReport{ServerName: s.ServerName, Key: string(cmp.Or(s.Ask, starttls.Any))}
	if s.Err != nil {
		shake.Error, shake.Kind = s.Err.Error(), report.KindOf(s.Err)
	}
	if s.Shown == nil || len(s.Shown.Chain) == 0 {
		return shake
	}
	leaf := s.Shown.Chain[0]
	shake.Chain, shake.Seconds = len(s.Shown.Chain), s.Shown.Elapsed.Seconds()
	shake.Serial, shake.NotAfter = bundle.SerialOf(leaf), leaf.NotAfter.UTC().Format(time.RFC3339)
	shake.TLS, shake.Cipher = tls.VersionName(s.Shown.Version), tls.CipherSuiteName(s.Shown.Cipher)
	shake.algorithm = algorithm(leaf)
	return shake
}

func algorithm(leaf *x509.Certificate) string {
	if leaf.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm {
		return "unknown key"
	}
	return leaf.PublicKeyAlgorithm.String()
}

// verifyCode chooses the exit code: whether something that counts has failed, and whether anything could be judged at all.
func verifyCode(r verifyReport, task verifyTask) report.Code {
	all := make([]map[verdict.Kind]verdictReport, 0, len(r.Hosts)+len(r.Domains))
	var findings []finding.Finding
	for _, h := range r.Hosts {
		if h.unserved {
			return report.CodeFault
		}
		all, findings = append(all, h.Verdicts), append(findings, h.Findings...)
	}
	for _, d := range r.Domains {
		all, findings = append(all, d.Verdicts), append(findings, d.Findings...)
	}
	if len(task.kinds) == 0 && finding.Worst(findings) == finding.Error {
		return report.CodeFault
	}
	passed, unknown := false, false
	for _, verdicts := range all {
		for kind, v := range verdicts {
			switch {
			case !task.counts(kind):
			case v.Result == verdict.Fail && v.NotCounted == "":
				return report.CodeFault
			case v.NotJudged:
				unknown = true
			case v.Result != verdict.NotApplicable:
				passed = true
			}
		}
	}
	if unknown && !passed {
		return report.CodeTemporary
	}
	return report.CodeOK
}

// noResolver returns an error if no resolver answered anything, not even about the root: then nothing is known about the hosts of others.
func noResolver(ctx context.Context, seen sight, resolver *resolve.Resolver) error {
	var failed *resolve.Error
	for _, a := range answersIn(seen) {
		if !unanswered(a) {
			return nil
		}
		failed = a.Err
	}
	if failed == nil {
		return nil
	}
	if resolver.Reach(ctx) == nil {
		return nil // others do not answer the resolver
	}
	return &report.Exit{Code: report.CodeTemporary, Err: &hinted{
		text: fmt.Sprintf("verify: no resolver answers (%s), so nothing can be judged: %v", strings.Join(resolver.Servers(), ", "), failed),
		hint: "name one that does: mxcert verify --resolver ADDRESS; or see /etc/resolv.conf and dns.resolvers",
	}}
}

func answersIn(seen sight) (list []resolve.Answer) {
	for _, d := range seen.domains {
		list = append(list, d.MX.Answer)
	}
	for _, h := range seen.hosts {
		list = append(list, h.Addresses...)
	}
	return list
}

// unanswered reports whether no resolver answered a question at all. SERVFAIL is an answer.
func unanswered(a resolve.Answer) bool {
	return a.State == resolve.Failed && a.Err != nil && a.Err.Silent()
}

// addressOf returns an address and a port as people write them.
func addressOf(h hostReport) string {
	address, err := netip.ParseAddr(h.Address)
	if err != nil {
		return ""
	}
	return netip.AddrPortFrom(address, uint16(h.Port)).String() //nolint:gosec // a port fits
}
