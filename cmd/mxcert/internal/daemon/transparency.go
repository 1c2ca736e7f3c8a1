package daemon

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/hooks/journal"
)

// transparency watches the logs of certificate transparency for the certificates of one configuration. Nothing in it is fatal: what fails is
// a line in the log, and the next look is made all the same.
type transparency struct {
	d     *Daemon
	watch *ct.Watch // nil until the first look

	said   map[string][]finding.Finding // what was told last, by certificate
	unread string                       // why files of ct.ours cannot be read; "" if they can
	fault  string                       // of the store, as it was logged last
	silent map[string]bool              // the sources that give no answer, by name
}

// transparencyTask is the look at the logs, if the configuration asks for it.
func (d *Daemon) transparencyTask(w *workload) []task {
	if !w.runner.Host.Transparency().Watch {
		return nil
	}
	t := &transparency{d: d, said: map[string][]finding.Finding{}, silent: map[string]bool{}}
	return []task{{name: "ct", work: t.look}}
}

// look asks what is due, and tells what has changed.
func (t *transparency) look(ctx context.Context, w *workload) (next time.Time) {
	var err error
	if t.watch == nil {
		t.watch = t.newWatch(w)
		err = t.watch.Begin(ctx)
	}
	t.log(err)
	next, err = t.watch.Step(ctx)
	if ctx.Err() != nil {
		return time.Time{}
	}
	t.log(err)
	t.sources()
	t.tell(w)
	return next
}

// sources logs which source has stopped to answer, and which answers again: one line each. It is no fault yet, because such services are
// often away for hours.
func (t *transparency) sources() {
	failing := t.watch.Memory().Failing
	for _, s := range t.watch.Sources {
		f, silent := failing[s.Name()]
		switch was := t.silent[s.Name()]; {
		case silent && !was:
			t.d.log.Info("a source of certificate transparency gives no answer; mxcert asks it again later", "source", s.Name(), "since", report.Minute(f.Since), "detail", f.Text)
		case was && !silent:
			t.d.log.Info("a source of certificate transparency answers again", "source", s.Name())
		}
		t.silent[s.Name()] = silent
	}
}

func (t *transparency) newWatch(w *workload) *ct.Watch {
	host, store := w.runner.Host, w.runner.Store
	settings, names := host.Transparency(), host.TransparencyNames()
	var certificates []string
	for _, c := range host.Certificates {
		certificates = append(certificates, c.Name)
	}
	names.FromState(store, certificates)
	ours := func() *ct.Ours {
		known := ct.NewOurs()
		if err := known.FromState(store); err != nil {
			t.log(err)
		}
		t.unread = ""
		if err := known.FromFiles(settings.Ours); err != nil {
			t.unread = finding.Quote(finding.Line(err), finding.MostQuoted)
		}
		return known
	}
	return &ct.Watch{Sources: settings.Sources(t.d.Release), Names: names, Interval: settings.Interval, Ours: ours, Book: store}
}

// log logs a fault of the store, once.
func (t *transparency) log(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != t.fault {
		t.d.log.Warn("what is known about the logs of certificate transparency could not be read or stored", "error", text)
	}
	t.fault = text
}

// tell hands over what is found, if that differs from what was told last, and logs what is new.
func (t *transparency) tell(w *workload) {
	host, store := w.runner.Host, w.runner.Store
	now := t.watch.Memory().Findings(t.watch.Names, ct.CAA(store, host.Directories), t.watch.Sources, time.Now())
	if t.unread != "" {
		now[""] = append(now[""], finding.New(ct.OursUnreadable, finding.Warning, "files of ct.ours cannot be read, so that their certificates count as unknown: %s", t.unread).
			Next("let the service read them, or correct ct.ours"))
	}
	topics := slices.Collect(maps.Keys(now))
	for certificate := range t.said {
		if _, still := now[certificate]; !still {
			topics = append(topics, certificate)
		}
	}
	slices.Sort(topics)
	for _, certificate := range topics {
		if reflect.DeepEqual(now[certificate], t.said[certificate]) {
			continue
		}
		t.report(certificate, t.said[certificate], now[certificate])
		t.d.Tell.Found(tell.Topic{Source: "ct", Certificate: certificate}, now[certificate])
	}
	t.said = now
}

// report logs what is new and what is gone.
func (t *transparency) report(certificate string, before, now []finding.Finding) {
	log := t.d.log
	if certificate != "" {
		log = log.With("certificate", certificate)
	}
	for _, f := range apart(now, before) {
		say := log.Warn
		if f.Severity == finding.Error {
			say = log.Error
		}
		say("certificate transparency", "id", f.ID, "subject", f.Subject, "detail", report.OneLine(f.Message), "hint", f.Hint, journal.LogsFault.Attr())
	}
	for _, f := range apart(before, now) {
		log.Info("certificate transparency: this is over", "id", f.ID, "subject", f.Subject, journal.LogsWell.Attr())
	}
}
