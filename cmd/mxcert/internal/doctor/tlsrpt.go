package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
)

// reportTest is the test of what senders report (RFC 8460); none without mail domains if the configuration names no directory either.
func (d *Doctor) reportTest() (test, bool) {
	var domains []string
	var resolver *resolve.Resolver
	for _, want := range d.Certificates {
		if len(want.MailDomains) > 0 && resolver == nil {
			resolver = want.Resolver()
		}
		for _, domain := range want.MailDomains {
			if !slices.Contains(domains, domain) {
				domains = append(domains, domain)
			}
		}
	}
	return test{id: "tlsrpt", run: func(ctx context.Context) []finding.Finding { return d.reports(ctx, resolver, domains) }}, len(domains) > 0 || d.Runner.Host.ReportDirectory != ""
}

// reports looks at what asks senders for reports, at what takes these, and at what they say. Nothing here keeps a certificate from being
// renewed, and anybody can forge a report, so nothing is an error.
func (d *Doctor) reports(ctx context.Context, resolver *resolve.Resolver, domains []string) []finding.Finding {
	directory := d.Runner.Host.ReportDirectory
	found := each(domains, func(domain string) []finding.Finding {
		name := tlsrpt.RecordName(domain)
		return []finding.Finding{asked(domain, resolver.LookTXT(ctx, name), directory, domains).About(domain)}
	})
	if directory == "" {
		return found
	}
	if len(domains) == 0 {
		found = append(found, well("mail_domains is not set, so mxcert does not look whether a domain asks senders for reports"))
	}
	found = append(found, dropAt(directory)...)
	return append(found, d.said()...)
}

// asked judges the TXT record by which a mail domain asks for reports. ours are the mail domains of this host.
func asked(domain string, set resolve.Set[string], directory string, ours []string) finding.Finding {
	name := tlsrpt.RecordName(domain)
	publish := fmt.Sprintf(`publish %s. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@%s"`, name, domain)
	if set.Err != nil {
		return doubtful("%s TXT cannot be found: %s", name, report.OneLine(set.Err.Error())).Next(set.Err.Hint())
	}
	record, err := tlsrpt.ParseRecord(set.Records)
	switch {
	case err != nil:
		return doubtful("senders send no report about %s, because %s TXT has a fault: %v", domain, name, err).Next(publish)
	case record == nil && directory == "":
		return well("%s does not ask senders for reports about TLS", domain).Next(publish + "; mxcert-tlsrpt(7) shows what reads them")
	case record == nil:
		return doubtful("tlsrpt.directory is set, and %s asks nobody for reports: there is no TXT record at %s", domain, name).Next(publish)
	}
	here := slices.DeleteFunc(slices.Clone(record.Mail), func(address string) bool {
		_, at, _ := strings.Cut(address, "@")
		return !slices.ContainsFunc(ours, func(d string) bool { return strings.EqualFold(d, at) })
	})
	all := strings.Join(append(slices.Clone(record.Mail), record.Web...), ", ")
	switch {
	case len(here) > 0 && directory == "":
		return well("senders send reports about %s to %s; mxcert reads none, because tlsrpt.directory is not set", domain, strings.Join(here, ", ")).
			Next("if no other program reads them, set up the directory that mxcert-tlsrpt(7) shows")
	case len(here) == 0 && len(record.Mail) == 0 && directory != "":
		return doubtful("tlsrpt.directory is set, and senders do not mail reports about %s: they post them to %s", domain, all).Next("add mailto:tlsrpt@" + domain + " to rua= of the TXT record at " + name)
	case len(here) == 0 && directory != "":
		return well("senders send reports about %s to %s; that is no mail domain of this host, so mxcert cannot tell whether they come here", domain, all)
	}
	return well("senders send reports about %s to %s", domain, all)
}

// mostDropped limits the files of the directory that are tried.
const mostDropped = 2000

// dropAt checks that reports can be read, and that no local user can put forged ones there.
func dropAt(directory string) []finding.Finding {
	const page = "mxcert-tlsrpt(7) shows how the mail server keeps it so"
	rights := fmt.Sprintf("chgrp -R mxcert %[1]s && chmod -R g+rX %[1]s; %[2]s", finding.Word(directory), page)
	var open []string
	var locked, files int
	first := ""
	err := filepath.WalkDir(directory, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && name == directory:
			return err
		case errors.Is(err, fs.ErrPermission):
			locked, first = locked+1, orFirst(first, name)
			return nil //nolint:nilerr // it is counted
		case err != nil:
			return nil //nolint:nilerr // it is gone
		case e.IsDir():
			if info, err := e.Info(); err == nil && info.Mode().Perm()&0o002 != 0 {
				open = append(open, name)
			}
			return nil
		case files == mostDropped:
			return filepath.SkipAll
		}
		files++
		if e.Type().IsRegular() && filepath.Base(filepath.Dir(name)) != "tmp" && !strings.HasPrefix(e.Name(), ".") && unix.Access(name, unix.R_OK) != nil {
			if _, err := os.Lstat(name); err == nil {
				locked, first = locked+1, orFirst(first, name)
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []finding.Finding{doubtful("%s does not exist, so no report arrives there", directory).About(directory).Next("make the directory, as mxcert-tlsrpt(7) shows, or remove tlsrpt.directory")}
	case err != nil:
		return []finding.Finding{doubtful("the reports of senders cannot be read: %s", finding.Line(err)).About(directory).Next(rights)}
	}
	var found []finding.Finding
	if locked > 0 {
		found = append(found, doubtful("%d of the reports in %s cannot be read, such as %s", locked, directory, finding.Quote(first, finding.MostQuoted)).About(directory).Next(rights))
	}
	for _, name := range open {
		found = append(found, doubtful("every user of this host can put reports into %s", finding.Quote(name, finding.MostQuoted)).About(directory).Next("chmod o-w "+finding.Word(name)+"; "+page))
	}
	return orWell(found, "%s can be read", directory)
}

func orFirst(first, name string) string {
	if first == "" {
		return name
	}
	return first
}

// said reports what the daemon has read: the failures that hold, and whether it can read at all.
func (d *Doctor) said() (found []finding.Finding) {
	var memory reported.Memory
	if err := d.Runner.Store.Remembered(state.Reported, &memory); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []finding.Finding{doubtful("what senders reported before is not known: %s", finding.Line(err)).Next("the daemon reads the directory again within the hour")}
	}
	if d.Daemon != nil {
		for _, f := range memory.Said {
			if f.ID == "tlsrpt-directory" {
				found = append(found, f)
			}
		}
	}
	if len(memory.Reports) == 0 {
		return append(found, well("the daemon has read no report of the last weeks; senders send one a day, if they have sent mail"))
	}
	doc := reported.Compare(memory.Reports, d.Runner.Host, d.Runner.Store, time.Time{})
	holding, about := 0, reported.Findings(doc, time.Now())
	for _, want := range d.Certificates {
		for _, f := range about[want.Name] {
			f.Severity = finding.Warning
			found = append(found, f)
			holding++
		}
	}
	if holding == 0 {
		found = append(found, well("%d %s of %d %s, until %s: no failure of the last week holds", doc.Reports, report.Plural(doc.Reports, "report"), len(doc.Senders), report.Plural(len(doc.Senders), "sender"), report.Minute(*doc.Until)))
	}
	return found
}
