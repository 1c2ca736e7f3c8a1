package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"
	"mxcert/hooks/journal"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
	"mxcert/cmd/mxcert/internal/tell"
)

const (
	// reportsPause is how long the daemon waits between two looks at the directory of reports: senders send one a day.
	reportsPause = time.Hour
	// reportsSoon is how long it waits if a report is still being written, or if there were too many for one time.
	reportsSoon = time.Minute
	// reportsTime limits one look.
	reportsTime = 2 * time.Minute
	// sameTick is more than two changes of files can be apart and have the same time.
	sameTick = 2 * time.Second
	// mostLooked limits the reports, policies and failures that one look keeps until its end. The memory has room for fewer.
	mostLooked = 50_000
	// mostUnread limits the lines about files that cannot be read.
	mostUnread = 10
)

// reportTasks reads what senders report, if the configuration says where that arrives.
func (d *Daemon) reportTasks(w *workload) []task {
	if w.runner.Host.ReportDirectory == "" {
		d.sayReported(w, nil, nil)
		return nil
	}
	return []task{{name: "tlsrpt", work: d.readReports}}
}

// readReports reads the reports that have arrived, and tells what holds of all that it remembers.
func (d *Daemon) readReports(ctx context.Context, w *workload) (next time.Time) {
	d.reading.Lock()
	defer d.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, reportsTime)
	defer cancel()
	now := time.Now()
	var memory reported.Memory
	if err := w.runner.Store.Remembered(state.Reported, &memory); err != nil && !errors.Is(err, fs.ErrNotExist) {
		aside := ""
		if !errors.Is(err, fs.ErrPermission) {
			aside, _ = w.runner.Store.SetAside(state.Reported) // if that fails, it is overwritten
		}
		d.log.Warn("what senders reported before is not known; the directory is read again", "error", err, "kept_as", aside)
		memory = reported.Memory{}
	}
	if memory.Read.After(now.Add(reportsPause)) { // the clock was wrong
		memory.Read = time.Time{}
	}
	look := &reportLook{d: d, directory: w.runner.Host.ReportDirectory, now: now, before: memory.Read, read: memory.Read}
	rest, err := tlsrpt.Directory(ctx, look.directory, memory.Read.Add(-sameTick), look.take)
	if w.waiting.Err() != nil {
		return next // the next configuration reads
	}
	found := map[string][]finding.Finding{}
	memory.Read = look.read
	fresh := unknown(look.reports, memory.Reports)
	memory.Add(look.reports, now)
	doc := reported.Compare(memory.Reports, w.runner.Host, w.runner.Store, time.Time{})
	for name, list := range reported.Findings(doc, now) {
		found[name] = list
	}
	if err != nil {
		d.log.Warn("the reports of senders cannot be read", "error", err)
		found[""] = append(found[""], finding.New("tlsrpt-directory", finding.Warning, "the reports of senders cannot be read: %s", finding.Line(err)).
			About(look.directory).Next(reportsHint(err, look.directory)))
	}
	look.end(fresh)
	memory.Said = d.sayChanged(memory.Said, found)
	if err := w.runner.Store.Remember(state.Reported, memory); err != nil {
		d.log.Warn("what senders report could not be stored", "error", err)
	}
	d.sayReported(w, found, reported.Certificates(memory.Reports, w.runner.Host, w.runner.Store, now))
	if rest > 0 && err == nil || look.unfinished {
		return time.Now().Add(reportsSoon)
	}
	return time.Now().Add(reportsPause)
}

// reportsHint says what to do about a directory that cannot be read.
func reportsHint(err error, directory string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory, as mxcert-tlsrpt(7) shows, or remove tlsrpt.directory"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("let the service read it: chgrp -R mxcert %[1]s && chmod -R g+rX %[1]s; mxcert-tlsrpt(7) shows how the mail server keeps it so", finding.Word(directory))
	}
	return ""
}

// sayChanged logs what is new and what is gone since the last look, and returns all that there is.
func (d *Daemon) sayChanged(before []finding.Finding, found map[string][]finding.Finding) (now []finding.Finding) {
	for _, list := range found {
		now = append(now, list...)
	}
	for _, f := range apart(now, before) {
		tell := d.log.Warn
		if f.Severity == finding.Error {
			tell = d.log.Error
		}
		tell("senders report a failure", "id", f.ID, "subject", f.Subject, "detail", f.Message, "hint", f.Hint, journal.ReportedFault.Attr())
	}
	for _, f := range apart(before, now) {
		d.log.Info("this failure that senders reported is over, or old", "id", f.ID, "subject", f.Subject, journal.ReportedWell.Attr())
	}
	return now
}

// sayReported tells listeners what senders report about each certificate, and about the host.
func (d *Daemon) sayReported(w *workload, found map[string][]finding.Finding, all map[string]*report.SenderReports) {
	d.Tell.Reported(all)
	d.Tell.Found(tell.Topic{Source: "tlsrpt"}, found[""])
	for _, want := range w.runner.Host.Certificates {
		d.Tell.Found(tell.Topic{Source: "tlsrpt", Certificate: want.Name}, found[want.Name])
	}
}

// reportLook is one look at the directory.
type reportLook struct {
	d            *Daemon
	directory    string
	now          time.Time
	before, read time.Time // up to which change the files were read before, and are now
	unfinished   bool      // a file is still being written: those after it are read again
	reports      []tlsrpt.Report
	unread       []report.Unreadable
}

// take takes what is in a file.
func (l *reportLook) take(f tlsrpt.File) {
	if errors.Is(f.Err, tlsrpt.ErrCutOff) && l.now.Sub(f.Changed) < reportsSoon {
		l.unfinished = true
		return
	}
	if f.Changed.After(l.before) && f.Err != nil && !errors.Is(f.Err, tlsrpt.ErrNone) && !errors.Is(f.Err, os.ErrNotExist) {
		l.unread = append(l.unread, report.Unreadable{File: f.Path, Message: finding.Quote(f.Err.Error(), finding.MostQuoted)})
	}
	if !l.unfinished && f.Changed.After(l.read) {
		l.read = f.Changed
	}
	for _, r := range f.Reports { // many forged ones must not fill the memory
		l.reports = append(l.reports, reported.Short(r))
	}
	l.reports = tlsrpt.Newest(l.reports, mostLooked)
}

// unknown lists the reports that are not remembered yet: files that changed just before the last look are read again.
func unknown(read, remembered []tlsrpt.Report) []tlsrpt.Report {
	known := map[string]bool{}
	for _, r := range remembered {
		known[r.Key()] = true
	}
	return slices.DeleteFunc(tlsrpt.Unique(read), func(r tlsrpt.Report) bool { return known[r.Key()] })
}

// end logs what could not be read, and what is new.
func (l *reportLook) end(fresh []tlsrpt.Report) {
	for i, u := range l.unread {
		if i == mostUnread {
			l.d.log.Warn("more reports of senders cannot be read", "files", len(l.unread)-i)
			break
		}
		l.d.log.Warn("a report of a sender cannot be read", "file", u.File, "error", u.Message)
	}
	if n := len(fresh); n > 0 {
		l.d.log.Info("reports of senders were read", "reports", n, "organizations", organizations(fresh))
	}
}

// organizations lists who reports, for the log.
func organizations(reports []tlsrpt.Report) (names []string) {
	for _, r := range reports {
		name := finding.Quote(r.Organization, 60)
		if !slices.Contains(names, name) && len(names) < mostNames {
			names = append(names, name)
		}
	}
	return names
}
