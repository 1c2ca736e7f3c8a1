package cli

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const tlsaCheckHelp = `Looks now, and changes nothing: asks every address of every authoritative server for the TLSA records of each name and port, makes the
handshakes of a sender with every address of the names and with the endpoints, and says what DANE senders decide for each name, key
type and address. It also says of each record whose it is, which key it fits and which servers give it, and where each key
stands: what is waited for, until when, and why.

Exit code 3 if a DANE sender would not accept a key, or if something has to be fixed by a person; 75 if the records could not be looked up, or
if no address could be judged. Records that DNSSEC does not validate on this host are judged as if it did: the careful side. NAME can
be left out if there is only one certificate.`

func (a *app) tlsaCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [NAME]", Short: "Judge the published records, the served keys, and what is waited for", Args: cobra.MaximumNArgs(1),
		Long: tlsaCheckHelp,
		RunE: func(cmd *cobra.Command, names []string) error { return a.tlsaCheck(cmd.Context(), names) },
	}
}

// tlsaCheck is the document of tlsa check.
type tlsaCheck struct {
	OK       bool              `json:"ok"`
	Name     string            `json:"name"`
	TLSA     *report.TLSA      `json:"tlsa"`
	Verdicts []tlsaVerdict     `json:"verdicts"`
	Findings []finding.Finding `json:"findings"`
}

// tlsaVerdict is what DANE senders decide about one address.
type tlsaVerdict struct {
	Owner     string         `json:"owner"`
	Key       string         `json:"key"`
	Address   string         `json:"address"`
	Serial    string         `json:"serial"`      // of the certificate that it serves
	SPKI      string         `json:"spki_sha256"` // of its key
	Result    verdict.Result `json:"result"`
	NotJudged bool           `json:"not_judged,omitempty"`
	Reason    string         `json:"reason"`
}

func (a *app) tlsaCheck(ctx context.Context, names []string) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // no chain is checked here
	name, err := oneName(host, names)
	if err != nil {
		return err
	}
	wants, err := choose(host, []string{name})
	if err != nil {
		return err
	}
	store, err := view(host.State)
	if err != nil {
		return err
	}
	l, err := readTLSA(store, wants[0])
	if err != nil {
		return err
	}
	parent := ctx
	ctx, cancel := a.within(parent, verifyTime)
	defer cancel()
	seen := l.shake(ctx)
	shown := make([]served.Result, len(seen))
	for i, s := range seen {
		shown[i] = s.Result
	}
	l.look(ctx, shown)
	if err := parent.Err(); err != nil {
		return fmt.Errorf("tlsa check: %w", err)
	}
	c := l.check(seen)
	code := c.code(l)
	c.OK = code == report.CodeOK
	return a.finish(answer{document: c, code: code, print: func(out sheet) { printCheck(out, c) }})
}

// shaken is a handshake with one address of an owner.
type shaken struct {
	owner dane.Owner
	served.Result
}

// handshakes limits the handshakes of a check.
const handshakes = 30 * time.Second

// shake makes the handshakes of senders: with every address of every owner, and with the endpoints at its port.
func (l *tlsaLook) shake(ctx context.Context) (seen []shaken) {
	ctx, cancel := context.WithTimeout(ctx, handshakes)
	defer cancel()
	resolver := l.Want.Resolver()
	var probes []served.Probe
	for _, owner := range l.Facts.Owners {
		for _, address := range l.addresses(ctx, resolver, owner) {
			for i, key := range l.Want.Keys {
				probes = append(probes, served.Probe{Address: address, ServerName: owner.Host, Key: string(key), Ask: served.Ask(l.Want.Keys, i), Want: l.Have.Bundles[i], Times: 1})
				seen = append(seen, shaken{owner: owner})
			}
		}
	}
	for i, result := range served.Look(ctx, probes) {
		seen[i].Result = result
	}
	return seen
}

// addresses lists where senders meet an owner: the addresses of the host, and the endpoints at the port.
func (l *tlsaLook) addresses(ctx context.Context, resolver *resolve.Resolver, owner dane.Owner) (list []string) {
	port := strconv.Itoa(owner.Port)
	found, err := resolver.Addresses(ctx, owner.Host)
	if err != nil {
		l.findings = append(l.findings, finding.New("tlsa-address", finding.Warning, "the addresses of %s could not be looked up: %s", owner.Host, finding.Line(err)))
	}
	for _, address := range found {
		list = append(list, net.JoinHostPort(address, port))
	}
	for _, endpoint := range l.Want.Endpoints() {
		if _, at, err := net.SplitHostPort(endpoint); err == nil && at == port && !slices.Contains(list, endpoint) {
			list = append(list, endpoint)
		}
	}
	return list
}

// check puts together what was found.
func (l *tlsaLook) check(seen []shaken) tlsaCheck {
	c := tlsaCheck{Name: l.Want.Name, TLSA: report.NewTLSA(l.TLSASight), Verdicts: []tlsaVerdict{}, Findings: append([]finding.Finding{}, l.findings...)}
	for i, owner := range l.Facts.Owners {
		met := false
		for _, s := range seen {
			if s.owner == owner {
				c.Verdicts, met = append(c.Verdicts, l.verdict(i, s)), true
			}
		}
		if !met {
			c.Verdicts = append(c.Verdicts, tlsaVerdict{Owner: owner.Name(), Result: verdict.NotApplicable, NotJudged: true, Reason: "the host has no address that could be asked"})
		}
		v := l.Facts.Views[i]
		if fault := v.Fault(); v.Err == nil && fault != "" {
			c.Findings = append(c.Findings, finding.New("tlsa-incomplete", finding.Warning, "not every server gives the same answer for %s: %s", owner.Name(), fault))
		}
		if v.Unvalidated() && len(v.Sets()) > 0 {
			c.Findings = append(c.Findings, finding.New("tlsa-unvalidated", finding.Warning, "no resolver of this host validates DNSSEC, so mxcert cannot tell whether senders use the records of %s; it judges as if they did", owner.Name()).
				Next("run a validating resolver such as Unbound on this host, or name one in dns.resolvers_trusted"))
		}
	}
	for _, w := range l.Plan.Warnings {
		c.Findings = append(c.Findings, finding.New("tlsa-plan", finding.Warning, "%s", w))
	}
	return c
}

// verdict judges what one handshake has shown against every record set that some server gives.
func (l *tlsaLook) verdict(owner int, s shaken) tlsaVerdict {
	v, view := tlsaVerdict{Owner: s.owner.Name(), Key: s.Key, Address: s.Address, Serial: s.Serial, Result: verdict.NotApplicable}, l.Facts.Views[owner]
	switch {
	case s.Shown == nil:
		v.NotJudged, v.Reason = true, finding.Line(s.Err)
		return v
	case view.Err != nil:
		v.NotJudged, v.Reason = true, "the records could not be looked up"
	case !slices.ContainsFunc(view.Sets(), func(set dane.Set) bool { return len(set.Records) > 0 }):
		v.Reason = "there are no TLSA records"
	case !view.Signed() && !view.Unvalidated():
		v.Reason = "senders do not use the records, because DNSSEC does not protect them"
	default:
		v.Result, v.Reason, v.NotJudged = l.judge(owner, s.Shown.Chain)
	}
	v.SPKI = bundle.SPKIOf(s.Shown.Chain[0].RawSubjectPublicKeyInfo)
	return v
}

// judge says what senders decide about a chain. They may hold any set that was given a while ago, and some look at the strongest digest
// only.
func (l *tlsaLook) judge(i int, chain []*x509.Certificate) (result verdict.Result, reason string, notJudged bool) {
	owner := l.Facts.Owners[i]
	refused := l.Rejects(owner, chain)
	result = verdict.NotApplicable
	for _, set := range l.Facts.Views[i].Sets() {
		switch fit := verdict.FitTLSA(set.TLSA(), chain, []string{owner.Host}, time.Now(), false); {
		case fit.NotJudged != "":
			return verdict.NotApplicable, fit.NotJudged, true
		case refused != "" && !fit.Accepts:
			return verdict.Fail, fit.Reason, false
		case fit.Checked && fit.Accepts:
			result, reason = verdict.Pass, ""
		case len(set.Records) > 0 && result == verdict.NotApplicable:
			reason = "no record is usable: senders use TLS and check nothing"
		}
	}
	if refused == "" {
		return result, reason, false
	}
	reason = "those that still hold older records do not: " + refused
	if _, until, _ := l.ready(owner, bundle.SPKIOf(chain[0].RawSubjectPublicKeyInfo)); !until.IsZero() {
		reason += fmt.Sprintf(", until %s (%s)", report.Minute(until), report.Until(until))
	}
	return verdict.Fail, reason, false
}

// code is that of verify: a fault, or else nothing could be judged.
func (c tlsaCheck) code(l *tlsaLook) report.Code {
	if c.TLSA.State == string(dane.Blocked) || finding.Worst(c.Findings) == finding.Error ||
		slices.ContainsFunc(c.Verdicts, func(v tlsaVerdict) bool { return v.Result == verdict.Fail }) {
		return report.CodeFault
	}
	unknown := func(v tlsaVerdict) bool { return v.NotJudged }
	if slices.ContainsFunc(l.Facts.Views, func(v dane.View) bool { return v.Err != nil }) ||
		slices.ContainsFunc(c.Verdicts, unknown) && !slices.ContainsFunc(c.Verdicts, func(v tlsaVerdict) bool { return !v.NotJudged }) {
		return report.CodeTemporary
	}
	return report.CodeOK
}

func printCheck(out sheet, c tlsaCheck) {
	fmt.Fprintf(out, "%s: ", c.Name)
	out.paint(c.answer())
	fmt.Fprintln(out)
	printTLSA(out, c.Name, c.TLSA, true)
	for _, v := range c.Verdicts {
		out.line("senders", "%s", v.text())
	}
	for _, f := range c.Findings {
		out.line(string(f.Severity), "%s", f.Message)
		if f.Hint != "" {
			out.line("next step", "%s", f.Hint)
		}
	}
}

// answer is the result in a few words, with its colour.
func (c tlsaCheck) answer() (text, colour string) {
	has := func(what func(tlsaVerdict) bool) bool { return slices.ContainsFunc(c.Verdicts, what) }
	switch {
	case has(func(v tlsaVerdict) bool { return v.Result == verdict.Fail }):
		return "DANE senders defer mail", red
	case c.TLSA.State == string(dane.Blocked):
		return "something has to be fixed", red
	case !has(func(v tlsaVerdict) bool { return !v.NotJudged }):
		return "not judged", yellow
	case !has(func(v tlsaVerdict) bool { return v.Result == verdict.Pass }):
		return "senders find no TLSA records to check", yellow
	}
	return "DANE senders accept what is served", green
}

// text says what senders decide about an address.
func (v tlsaVerdict) text() string {
	what := map[verdict.Result]string{verdict.Pass: "accept", verdict.Fail: "do not accept"}[v.Result]
	switch {
	case v.NotJudged:
		what = "not judged"
	case what == "":
		what = "do not check"
	}
	text := strings.TrimSpace(fmt.Sprintf("%s %s at %s", v.Owner, v.Key, v.Address)) + ": " + what
	if v.Address == "" {
		text = v.Owner + ": " + what
	}
	if v.Reason != "" {
		text += ", " + v.Reason
	}
	return text
}
