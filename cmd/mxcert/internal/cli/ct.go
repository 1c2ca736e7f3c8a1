package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/ct"
	"mxcert/acme/finding"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// ctTime limits a look at the logs. With many names and slow services it takes long.
const ctTime = 10 * time.Minute

func (a *app) ctCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ct", Short: "Certificates of our names in the public logs", Args: cobra.NoArgs,
		Long: `Looks for certificates of your names that mxcert did not order, in the logs of certificate transparency. mxcert asks services that
have indexed the logs (ct.sources); it does not read the logs themselves. With ct.watch the daemon looks, too. mxcert-ct(7) says more.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.ctCheckCommand(), a.ctOursCommand())
	return cmd
}

func (a *app) ctCheckCommand() *cobra.Command {
	var accept []string
	var all bool
	cmd := &cobra.Command{
		Use: "check", Short: "Look now for certificates that mxcert did not order", Args: cobra.NoArgs,
		Long: `Asks the services of ct.sources about each name of your certificates, and lists what is neither ours nor known.

Ours are the certificates that mxcert has ordered, those for its keys, and those of the files in ct.ours. Known is what the daemon found
at its first look (learned), and what you have accepted. --accept SERIAL accepts a certificate, and later ones for the same key;
--accept all accepts whatever this look finds. Without --accept this command stores nothing.

Exit codes: 0 nothing unknown, 3 an unknown certificate, 75 a name could not be asked about.`,
		Example: `  mxcert ct check
  mxcert ct check --accept 04a3f1c2…
  mxcert ct check --all --json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ctCheck(cmd.Context(), accept, all) },
	}
	cmd.Flags().StringSliceVar(&accept, "accept", nil, "accept the certificate with this `SERIAL`, or all; can be given several times")
	cmd.Flags().BoolVar(&all, "all", false, "also list certificates that are ours or known")
	return cmd
}

// ctReport is `ct check --json`.
type ctReport struct {
	OK           bool            `json:"ok"`
	At           time.Time       `json:"at"`
	Certificates []ctCertificate `json:"certificates"`
	Sources      []ctSource      `json:"sources"`
	Warnings     []string        `json:"warnings"`
}

type ctCertificate struct {
	ct.Entry
	Standing ct.Standing `json:"standing"`
	Sources  []string    `json:"sources"`
	Lineages []string    `json:"certificates"` // the own ones with a name of it
	Hint     string      `json:"hint"`
	CAA      []string    `json:"caa"`
}

type ctSource struct {
	Source    string   `json:"source"`
	Questions int      `json:"questions"`
	Answered  int      `json:"answered"`
	Refused   []string `json:"refused"`
	Error     string   `json:"error"`
}

func (a *app) ctCheck(ctx context.Context, accept []string, all bool) error {
	ctx, cancel := a.within(ctx, ctTime)
	defer cancel()
	config, err := a.load()
	if err != nil {
		return err
	}
	host, err := a.translate(ctx, config, "ct check")
	if err != nil {
		return err
	}
	open := view
	if len(accept) > 0 {
		open = change
	}
	store, err := open(host.State)
	if err != nil {
		return err
	}
	watch, warnings := a.transparency(host, store)
	memory, err := ct.Read(store)
	if err != nil {
		warnings = append(warnings, "what the daemon remembers cannot be read, so that everything counts as new: "+finding.Line(err))
	}
	narrator := a.narrate()
	found, asked := watch.Check(ctx, memory, func(source, question string) { narrator.speak("ct")("ct", "asking "+source+" about "+question) })
	narrator.end()
	if len(accept) > 0 {
		if found, err = acceptThem(ctx, store, found, asked, accept); err != nil {
			return err
		}
	}
	r := newCTReport(found, asked, watch.Names, ct.CAA(store, host.Directories), warnings)
	code := r.code()
	r.OK = code == report.CodeOK
	return a.finish(answer{document: r, code: code, changed: len(accept) > 0, print: func(out sheet) { printCT(out, r, all) }})
}

// transparency returns what looks at the logs for a host, and what it cannot read.
func (a *app) transparency(host *wanted.Host, store *state.Book) (*ct.Watch, []string) {
	settings, names, warnings := host.Transparency(), host.TransparencyNames(), []string{}
	var certificates []string
	for _, c := range host.Certificates {
		certificates = append(certificates, c.Name)
	}
	names.FromState(store, certificates)
	known, err := ct.Collect(store, settings.Ours)
	if err != nil {
		warnings = append(warnings, "not everything that is ours is known: "+finding.Line(err))
	}
	return &ct.Watch{Sources: settings.Sources(a.version), Names: names, Interval: settings.Interval, Ours: func() *ct.Ours { return known }, Book: store}, warnings
}

// acceptThem stores that the certificates with these serials are known.
func acceptThem(ctx context.Context, store *state.Book, found []ct.Judged, asked []ct.Asked, serials []string) ([]ct.Judged, error) {
	wanted := map[string]bool{}
	for _, serial := range serials {
		wanted[strings.ToLower(strings.ReplaceAll(serial, ":", ""))] = true
	}
	var chosen []ct.Entry
	keys, met := map[string]bool{}, map[string]bool{}
	for _, j := range found {
		if (j.Standing == ct.Alien || j.Standing == ct.Hidden) && wanted["all"] || wanted[j.ID()] {
			chosen, met[j.ID()], keys[j.SPKI] = append(chosen, j.Entry), true, j.SPKI != ""
		}
	}
	for serial := range wanted {
		if serial != "all" && !met[serial] {
			if at := slices.IndexFunc(asked, func(s ct.Asked) bool { return s.Err != nil }); at >= 0 {
				return nil, &report.Exit{Code: report.CodeTemporary, Err: &hinted{
					text: "nothing is accepted: no source shows a certificate with the serial " + finding.Quoted(serial, 80) + ", but " + asked[at].Source + " did not answer everything: " + finding.Line(asked[at].Err),
					hint: "try again when it answers",
				}}
			}
			return nil, &hinted{text: "no certificate of your names has the serial " + finding.Quoted(serial, 80) + ": nothing is accepted", hint: "mxcert ct check --all lists them"}
		}
	}
	_, err := ct.Update(ctx, store, func(m *ct.Memory) {
		for _, e := range chosen {
			m.Accept(e)
		}
	})
	for i, j := range found {
		if (j.Standing == ct.Alien || j.Standing == ct.Hidden || j.Standing == ct.Learned) && (met[j.ID()] || keys[j.SPKI]) {
			found[i].Standing = ct.Accepted
		}
	}
	return found, err
}

func newCTReport(found []ct.Judged, asked []ct.Asked, names ct.Names, caa func(string) []string, warnings []string) ctReport {
	r := ctReport{At: time.Now().UTC().Truncate(time.Second), Certificates: []ctCertificate{}, Sources: []ctSource{}, Warnings: warnings}
	for _, j := range found {
		c := ctCertificate{Entry: j.Entry, Standing: j.Standing, Sources: j.Sources, Lineages: names.Owners(j.Entry), CAA: []string{}}
		if c.unknown() {
			c.Hint = j.NextStep(names, func(string) []string { return nil })
			for _, name := range names.Shared(j.Entry) {
				c.CAA = append(c.CAA, caa(name)...)
			}
		}
		r.Certificates = append(r.Certificates, c)
	}
	for _, s := range asked {
		one := ctSource{Source: s.Source, Questions: s.Questions, Answered: s.Answered, Refused: append([]string{}, s.Refused...)}
		if s.Err != nil {
			one.Error = finding.Quote(s.Err.Error(), finding.MostQuoted)
		}
		r.Sources = append(r.Sources, one)
	}
	return r
}

func (c ctCertificate) unknown() bool { return c.Standing == ct.Alien || c.Standing == ct.Hidden }

// code chooses the exit code. One source that has answered everything is enough.
func (r ctReport) code() report.Code {
	if slices.ContainsFunc(r.Certificates, ctCertificate.unknown) {
		return report.CodeFault
	}
	if slices.ContainsFunc(r.Sources, func(s ctSource) bool { return s.Error == "" && len(s.Refused) == 0 }) {
		return report.CodeOK
	}
	return report.CodeTemporary
}

func printCT(out sheet, r ctReport, all bool) {
	counts := map[ct.Standing]int{}
	for _, c := range r.Certificates {
		if counts[c.Standing]++; c.unknown() || all {
			printCTCertificate(out, c)
		}
	}
	for _, w := range r.Warnings {
		out.line("warning", "%s", w)
	}
	for _, s := range r.Sources {
		text := fmt.Sprintf("%s answered %d of %d %s", s.Source, s.Answered, s.Questions, report.Plural(s.Questions, "question"))
		if len(s.Refused) > 0 {
			text += "; it refuses " + strings.Join(s.Refused[:min(len(s.Refused), 5)], ", ")
		}
		if s.Error != "" {
			text += "; " + s.Error
		}
		out.line("source", "%s", text)
	}
	out.line("found", "%d unknown, %d ours, %d learned, %d accepted", counts[ct.Alien]+counts[ct.Hidden], counts[ct.Own], counts[ct.Learned], counts[ct.Accepted])
}

func printCTCertificate(out sheet, c ctCertificate) {
	names := make([]string, 0, len(c.Names))
	for _, name := range c.Names[:min(len(c.Names), 10)] {
		names = append(names, foreign(name))
	}
	if more := len(c.Names) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	fmt.Fprintf(out, "%s: serial %s\n", c.Standing, finding.Quote(c.ID(), 80))
	out.line("names", "%s", strings.Join(names, ", "))
	out.line("issuer", "%s", finding.Quote(c.Issuer, finding.MostQuoted))
	out.line("valid", "%s to %s", report.Minute(c.NotBefore), report.Minute(c.NotAfter))
	out.line("found by", "%s %s", strings.Join(c.Sources, ", "), finding.QuoteLink(c.Link, finding.MostQuoted))
	out.line("concerns", "%s", strings.Join(c.Lineages, ", "))
	if c.Hint != "" {
		out.line("next step", "%s", c.Hint)
	}
	for _, record := range c.CAA {
		out.line("CAA", "only your account may order with: %s", record)
	}
	fmt.Fprintln(out)
}
