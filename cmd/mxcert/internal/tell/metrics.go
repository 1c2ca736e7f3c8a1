package tell

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/metrics"
)

const (
	// filePause is how long a textfile is left as it is, at least: with many certificates passes end all the time, and nobody reads the file
	// more often.
	filePause = 15 * time.Second
	// fileRetry is how long to wait after the textfile could not be written.
	fileRetry = time.Minute
	// unknownID is the id of findings about certificates in the logs that mxcert did not order, and transparency their source.
	unknownID    = "ct-unknown-certificate"
	transparency = "ct"
)

// Metrics is a listener that publishes numbers. Make one with [NewMetrics].
type Metrics struct {
	log    *slog.Logger
	source *metrics.Source
	server *metrics.Server // nil as long as no daemon runs

	loaded  time.Time // when the configuration came into force that the last snapshot is about
	file    string    // the textfile; "" if there is none
	wrote   time.Time // when it was last written
	problem string    // why that failed; "" if it did not
}

// NewMetrics returns the listener.
func NewMetrics(log *slog.Logger) *Metrics { return &Metrics{log: log, source: &metrics.Source{}} }

// Name is a word for the log.
func (*Metrics) Name() string { return "metrics" }

// On reports whether the configuration asks for metrics.
func (*Metrics) On(host *wanted.Host) bool { return host.Metrics.On() }

// Notified counts a message to people; result is success, failure or dropped. It may be called at any time.
func (m *Metrics) Notified(channel, result string) { m.source.Notified(channel, result) }

// Witness counts the orders and reloads of a pass.
func (m *Metrics) Witness(p Pass) {
	if p.Report.Renewal != "" {
		m.source.Renewed(p.Report.Name, string(p.Report.Renewal))
	}
	for _, r := range p.Report.Reloads {
		m.source.Reloaded(r.Unit, string(r.Outcome))
	}
}

// Listen publishes what is known.
func (m *Metrics) Listen(ctx context.Context, w World) (again time.Time) {
	settings := w.Host.Metrics
	m.useFile(settings.Textfile)
	m.source.Count(names(w.Host), w.Host.Units(), settings.Channels)
	m.source.Set(m.snapshot(w))
	if w.Health != nil && m.server == nil {
		m.server = metrics.NewServer(m.log, m.source, w.Health)
		context.AfterFunc(ctx, m.server.Close) // the hub makes no last call if nothing has changed
	}
	if m.server != nil {
		if w.Final {
			m.server.Close()
		} else {
			again = m.server.Apply(metrics.Settings{Listen: settings.Listen, WebConfig: settings.WebConfig})
		}
	}
	return sooner(again, m.writeFile(w.Final))
}

// useFile begins to write a textfile. One that the configuration does not have any more is removed, because node_exporter would go on to
// read it.
func (m *Metrics) useFile(file string) {
	if file == m.file {
		return
	}
	if m.file != "" && m.problem == "" {
		if err := os.Remove(m.file); err != nil {
			m.log.Warn("a textfile that is not in use any more could not be removed", "error", err)
		}
	}
	m.file, m.wrote, m.problem = file, time.Time{}, ""
	if file == "" {
		return
	}
	if err := m.source.Carry(file); err != nil {
		m.log.Warn("the numbers of an earlier textfile are not known", "error", err)
	}
}

// writeFile writes the textfile, but not all the time.
func (m *Metrics) writeFile(now bool) (again time.Time) {
	if m.file == "" {
		return time.Time{}
	}
	if next := m.wrote.Add(filePause); !now && m.problem == "" && time.Now().Before(next) {
		return next
	}
	err := metrics.WriteFile(m.file, m.source)
	m.wrote = time.Now()
	if err == nil {
		if m.problem != "" {
			m.log.Info("the textfile of metrics is written again", "file", m.file)
		}
		m.problem = ""
		return time.Time{}
	}
	if m.problem != err.Error() {
		m.log.Error("the textfile of metrics could not be written; mxcert tries again every minute", "file", m.file, "error", err, "hint", hintOf(err))
	}
	m.problem = err.Error()
	return time.Now().Add(fileRetry)
}

// hintOf says what to do if the textfile cannot be written.
func hintOf(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return "free space in the file system of the textfile"
	}
	return "make a directory that the service may write to: see METRICS in mxcert(7)"
}

// snapshot takes the numbers out of a World. It keeps nothing else of it: reports are large.
func (m *Metrics) snapshot(w World) metrics.Snapshot {
	before := m.source.Snapshot().Certificates
	if m.loaded != w.Loaded { // the configuration may have dropped an endpoint
		before = nil
	}
	m.loaded = w.Loaded
	s := metrics.Snapshot{Release: w.Release, ConfigGood: w.ConfigError == "", Configured: names(w.Host), TLSAStates: report.TLSAStates()}
	s.Fleet = fleetNumbers(w)
	for _, name := range w.Names() {
		known := w.Certificates[name]
		c := certificate(known)
		if at, ok := slices.BinarySearchFunc(before, name, func(c metrics.Certificate, name string) int { return cmp.Compare(c.Name, name) }); ok && known.Report.Error != nil {
			keep(&c, before[at])
		}
		if c.Unknown = -1; w.Host.Metrics.Watched {
			c.Unknown = unknown(w, name)
		}
		s.Certificates = append(s.Certificates, c)
	}
	return s
}

// certificate takes the numbers out of a report.
func certificate(known Certificate) metrics.Certificate {
	r := known.Report
	c := metrics.Certificate{Name: r.Name, Due: r.RenewalDue, LastSuccess: r.LastSuccess, Took: known.Took}
	for _, k := range r.Keys {
		c.Keys = append(c.Keys, metrics.Key{Key: k.Key, NotBefore: k.NotBefore, NotAfter: k.NotAfter})
	}
	for _, e := range r.Endpoints {
		endpoint := metrics.Endpoint{Address: e.Address, Key: e.Key, Matches: e.Matches}
		if e.NotAfter != nil {
			endpoint.NotAfter = *e.NotAfter
		}
		c.Endpoints = append(c.Endpoints, endpoint)
	}
	if r.TLSA == nil {
		return c
	}
	for _, o := range r.TLSA.Owners {
		if o.Matches != nil {
			c.Owners = append(c.Owners, metrics.Owner{Host: o.Host, Port: o.Port, Matches: *o.Matches})
		}
	}
	for _, k := range r.TLSA.Keys {
		c.TLSA = append(c.TLSA, metrics.KeyState{Key: k.Key, State: k.State})
	}
	return c
}

// keep takes what a pass that failed early did not find out from the pass before.
func keep(c *metrics.Certificate, before metrics.Certificate) {
	if len(c.Keys) == 0 {
		c.Keys, c.Due, c.Owners, c.TLSA = before.Keys, before.Due, before.Owners, before.TLSA
	}
	if len(c.Endpoints) == 0 {
		c.Endpoints = before.Endpoints
	}
	if c.LastSuccess.IsZero() {
		c.LastSuccess = before.LastSuccess
	}
}

// unknown counts the certificates in the logs that mxcert did not order.
func unknown(w World, name string) (n int) {
	for _, f := range w.Findings[Topic{Source: transparency, Certificate: name}] {
		if f.ID == unknownID {
			n++
		}
	}
	return n
}

func names(host *wanted.Host) []string {
	list := make([]string, len(host.Certificates))
	for i, c := range host.Certificates {
		list[i] = c.Name
	}
	return list
}

// sooner returns the earlier of two times; a zero one does not count.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
