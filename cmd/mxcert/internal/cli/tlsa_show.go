package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// showPatience limits the look of tlsa show at DNS: the records can be shown without it.
const showPatience = 15 * time.Second

const tlsaShowHelp = `Prints the records to publish: for each name, port and key type that of the current key and, with dane.mode gate or publish, that of
the next key. With mode gate, the command has a next key made and stored if there is none. It also lists the records of old keys that can go. It
looks at DNS for aliases and for what is published already, and changes nothing there.

--format zone (the default) prints lines for a zone file, nsupdate a script for nsupdate(1), json a document. NAME can be left out if
there is only one certificate.`

const tlsaShowExamples = `  mxcert tlsa show mx >> example.org.zone
  mxcert tlsa show mx --format nsupdate | nsupdate -k mxcert.key`

func (a *app) tlsaShowCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "show [NAME]", Short: "Print the records to publish, for the current and the next key", Args: cobra.MaximumNArgs(1),
		Long: tlsaShowHelp, Example: tlsaShowExamples,
		RunE: func(cmd *cobra.Command, names []string) error { return a.tlsaShow(cmd.Context(), names, format) },
	}
	cmd.Flags().StringVar(&format, "format", "zone", "the `FORMAT`: zone, nsupdate or json")
	return cmd
}

// shownTLSA is the document of tlsa show.
type shownTLSA struct {
	Name     string        `json:"name"`
	Mode     string        `json:"mode"`
	TTL      int           `json:"ttl"` // in seconds
	Records  []shownRecord `json:"records"`
	Remove   []shownRecord `json:"remove"`  // records of old keys that nobody needs any more
	NewKey   string        `json:"new_key"` // what has to be done before the key can change
	Warnings []string      `json:"warnings"`
}

type shownRecord struct {
	Owner   string `json:"owner"`
	Name    string `json:"name"` // where the record has to be: the end of the aliases of the owner, fully qualified
	Zone    string `json:"zone"` // fully qualified; "" if it is not known
	Record  string `json:"record"`
	Key     string `json:"key"`
	Role    string `json:"role"`      // current, next or old
	Present bool   `json:"published"` // every server gives it
}

func (a *app) tlsaShow(ctx context.Context, names []string, format string) error {
	switch {
	case !slices.Contains([]string{"zone", "nsupdate", "json"}, format):
		return report.Usage("--format is zone, nsupdate or json, not %q", format)
	case format == "json":
		a.json = true
	}
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	h, want, err := a.oneForTLSA(ctx, names, "tlsa show")
	if err != nil {
		return err
	}
	l, err := a.withNextKeys(ctx, h, want)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, showPatience)
	defer cancel()
	l.look(ctx, nil)
	shown := l.shown()
	print := printZone
	if format == "nsupdate" {
		print = printUpdate
	}
	return a.finish(answer{document: shown, print: func(out sheet) { print(out, shown) }})
}

// oneForTLSA reads the configuration, and chooses the certificate of a command about TLSA records.
func (a *app) oneForTLSA(ctx context.Context, names []string, command string) (h *wanted.Host, want wanted.Certificate, err error) {
	config, err := a.load()
	if err != nil {
		return nil, want, err
	}
	host, _ := wanted.From(config) // translate reports roots that cannot be read
	name, err := oneName(host, names)
	if err != nil {
		return nil, want, err
	}
	wants, err := choose(host, []string{name})
	if err != nil {
		return nil, want, err
	}
	h, err = a.translate(ctx, config, command)
	return h, wants[0], err
}

// withNextKeys reads what is known about a certificate. If the operator is to publish the record of a next key and there is none, a pass
// makes it first. With mode publish it is of no use to a person before mxcert has published its record.
func (a *app) withNextKeys(ctx context.Context, h *wanted.Host, want wanted.Certificate) (*tlsaLook, error) {
	store, err := view(h.State)
	if err != nil {
		return nil, err
	}
	l, err := readTLSA(store, want)
	if err != nil || l.Facts.Settings.Mode != dane.ByHand || len(l.Facts.Next) == len(l.Facts.Current) {
		return l, err
	}
	r, passErr := a.passes(ctx, h, []string{want.Name}, pass.Options{Publish: true, Asked: time.Now()})
	if l, err = readTLSA(store, want); err != nil {
		return nil, err
	}
	if len(l.Facts.Next) < len(l.Facts.Current) {
		l.findings = append(l.findings, finding.New("tlsa-next-key", finding.Warning, "there is no next key yet: %s", report.OneLine(whyNoNext(r, passErr))))
	}
	return l, nil
}

// whyNoNext says why a pass has made no next key.
func whyNoNext(r *report.Report, err error) string {
	if err != nil {
		return err.Error()
	}
	c := r.Certificates[0]
	switch {
	case c.Error != nil:
		return c.Error.Message
	case c.TLSA != nil && c.TLSA.WaitingFor != "":
		return waitText(report.TLSAKey{State: c.TLSA.State, Until: c.TLSA.Until, WaitingFor: c.TLSA.WaitingFor})
	}
	return "the pass did not make it"
}

// rolls reports whether mxcert changes keys together with their records.
func rolls(mode dane.Mode) bool { return mode == dane.ByHand || mode == dane.Publish }

// shown lists the records.
func (l *tlsaLook) shown() shownTLSA {
	s := shownTLSA{Name: l.Want.Name, Mode: string(l.Mode), TTL: int(l.settings().TTL.Seconds()), Records: []shownRecord{}, Remove: []shownRecord{}, Warnings: []string{}}
	for _, w := range l.wanted() {
		s.Records = append(s.Records, l.record(w))
	}
	for i, owner := range l.Facts.Owners {
		for _, record := range l.spent(i) {
			if r := l.record(dane.Wanted{Owner: owner, Record: record, Role: "old"}); !slices.ContainsFunc(slices.Concat(s.Records, s.Remove), func(o shownRecord) bool { return o.Name == r.Name && o.Record == r.Record }) {
				_, r.Key, _ = strings.Cut(l.Matches(record), " ")
				s.Remove = append(s.Remove, r)
			}
		}
	}
	for _, f := range l.findings {
		s.Warnings = append(s.Warnings, report.OneLine(f.Message))
	}
	s.Warnings = append(s.Warnings, l.Plan.Warnings...)
	s.NewKey = l.newKey(s.Records)
	return s
}

// wanted lists the records that should be there: those of the plan, and those of keys in service that it does not know. With mode check there is
// no plan: then they are those of the current keys.
func (l *tlsaLook) wanted() []dane.Wanted {
	list := slices.Clone(l.Plan.Show)
	for _, owner := range l.Facts.Owners {
		add := func(k dane.KeyOf, role string) {
			record := dane.Record(k.SPKI).String()
			if !slices.ContainsFunc(list, func(w dane.Wanted) bool { return w.Owner == owner && w.Record == record }) {
				list = append(list, dane.Wanted{Owner: owner, Record: record, Key: k.Type, SPKI: k.SPKI, Role: role})
			}
		}
		if len(l.Plan.Show) == 0 {
			for _, k := range l.Facts.Current {
				add(k, "current")
			}
		}
		for _, k := range l.InService() {
			add(k, "old")
		}
	}
	return list
}

func (l *tlsaLook) record(w dane.Wanted) shownRecord {
	r := shownRecord{Owner: w.Owner.Name(), Name: w.Owner.Name() + ".", Record: w.Record, Key: string(w.Key), Role: w.Role}
	i := slices.Index(l.Facts.Owners, w.Owner)
	if i < 0 || i >= len(l.Facts.Places) {
		return r
	}
	if place := l.Facts.Places[i]; place.Name != "" {
		r.Name, r.Zone = strings.TrimSuffix(place.Name, ".")+".", place.Zone
	}
	if t, err := resolve.ParseTLSA(w.Record); err == nil {
		r.Present, _ = l.Facts.Views[i].Everywhere(t)
	}
	return r
}

// spent lists the published records of keys of this certificate that are neither to be there nor somebody else's. The key that was last proven
// is not old before another one is: while a new certificate is being deployed, senders still meet it.
func (l *tlsaLook) spent(owner int) (list []string) {
	for _, set := range l.Facts.Views[owner].Sets() {
		for _, record := range set.Records {
			if strings.HasPrefix(l.Matches(record), "old ") && !l.proven(record) && !slices.Contains(list, record) {
				list = append(list, record)
			}
		}
	}
	return list
}

// proven reports whether a record is that of a key that was last proven on every endpoint.
func (l *tlsaLook) proven(record string) bool {
	for _, r := range l.State.Keys {
		if r != nil && r.Current != "" && record == dane.Record(r.Current).String() {
			return true
		}
	}
	return slices.ContainsFunc(l.InService(), func(k dane.KeyOf) bool { return record == dane.Record(k.SPKI).String() })
}

// printZone prints lines for a zone file.
func printZone(out sheet, s shownTLSA) {
	printHead(out, s)
	for _, r := range s.Records {
		remark(out, "%s key, %s", r.role(), r.presence())
		fmt.Fprintf(out, "%s %d IN TLSA %s\n", r.Name, s.TTL, r.Record)
	}
	for _, r := range s.Remove {
		remark(out, "%s key: this record can be removed", r.role())
		fmt.Fprintf(out, "; %s %d IN TLSA %s\n", r.Name, s.TTL, r.Record)
	}
	remark(out, "%s", s.NewKey)
}

// printUpdate prints a script for nsupdate, with one update for each name. An update at a name with a CNAME record would be answered with
// success and do nothing (RFC 2136 section 3.4.2.2), so each has the condition that there is none.
func printUpdate(out sheet, s shownTLSA) {
	printHead(out, s)
	var names []string
	all := slices.Concat(s.Records, s.Remove)
	for _, r := range all {
		if slices.Contains(names, r.Name) {
			continue
		}
		names = append(names, r.Name)
		if r.Zone != "" {
			fmt.Fprintf(out, "zone %s\n", r.Zone)
		}
		fmt.Fprintf(out, "prereq nxrrset %s IN CNAME\n", r.Name)
		for i, other := range all {
			switch {
			case other.Name != r.Name:
			case i < len(s.Records):
				fmt.Fprintf(out, "update add %s %d IN TLSA %s\n", other.Name, s.TTL, other.Record)
			default:
				fmt.Fprintf(out, "update delete %s IN TLSA %s\n", other.Name, other.Record)
			}
		}
		fmt.Fprintln(out, "send")
	}
}

func printHead(out sheet, s shownTLSA) {
	remark(out, "TLSA records of the certificate %s, dane.mode %s", s.Name, s.Mode)
	for _, w := range s.Warnings {
		remark(out, "warning: %s", w)
	}
}

// remark prints a comment, as zone files and nsupdate know it.
func remark(out sheet, format string, values ...any) {
	text := fold(report.OneLine(fmt.Sprintf(format, values...)), 2, 0, out.width-2)
	fmt.Fprintln(out, "; "+strings.ReplaceAll(text, "\n", "\n; "))
}

func (r shownRecord) role() string { return strings.TrimSpace(cmp.Or(r.Role, "the") + " " + r.Key) }

func (r shownRecord) presence() string {
	if r.Present {
		return "published on every server"
	}
	return "not published on every server yet"
}
