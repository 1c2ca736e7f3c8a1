package reported

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/mx"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// history is what this host has had in service, for comparison.
type history struct {
	certificates []certificate
	addresses    []netip.Addr
}

// certificate is one lineage.
type certificate struct {
	want     wanted.Certificate
	names    []string // wanted, and those that its certificates have had
	services []service
	senders  report.Senders // what mxcert met when it last looked as a sender; At is zero if it did not
}

// service is a stretch of time in which a certificate was in service.
type service struct {
	state.Generation
	from, until time.Time // until is zero if it still is
}

// read reads the history of a host. What cannot be read is not compared.
func read(host *wanted.Host, store *state.Book) *history {
	h := &history{}
	for _, want := range host.Certificates {
		c := certificate{want: want, names: slices.Clone(want.Names)}
		lineage := store.Lineage(want.Name)
		if record, _, err := lineage.Look(); err == nil {
			generations, _ := lineage.Generations()
			c.services = services(record, generations)
			for _, g := range generations {
				c.names = append(c.names, g.Names...)
			}
		}
		if lineage.Senders(&c.senders) != nil {
			c.senders = report.Senders{}
		}
		h.certificates = append(h.certificates, c)
	}
	if len(host.Certificates) > 0 {
		h.addresses, _ = mx.Own(host.Certificates[0].PublicAddresses) // what could not be read is not ours
	}
	return h
}

// services finds out from the events of a lineage when each generation was in service, in the order of time. The record keeps a limited
// number of events: what is older went into service when it was issued, as far as anybody knows.
func services(record state.Record, generations []state.Generation) (list []service) {
	byKey := map[bundle.KeyType][]service{}
	for _, g := range generations {
		known := false
		for _, e := range record.Events {
			if (e.Event == "served" || e.Event == "deployed") && e.Serial == g.Serial {
				byKey[g.Key] = append(byKey[g.Key], service{Generation: g, from: e.At})
				known = true
			}
		}
		older := len(record.Events) > 0 && g.Created.Before(record.Events[0].At)
		if slot := record.Keys[g.Key]; !known && (older || slot != nil && (slot.Served == g.ID || slot.Previous == g.ID)) {
			byKey[g.Key] = append(byKey[g.Key], service{Generation: g, from: g.Created})
		}
	}
	for _, stretch := range byKey {
		slices.SortFunc(stretch, func(a, b service) int { return a.from.Compare(b.from) })
		for i := range stretch[1:] {
			stretch[i].until = stretch[i+1].from
		}
		list = append(list, stretch...)
	}
	slices.SortFunc(list, func(a, b service) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.Key, b.Key)) })
	return list
}

// find finds the certificate that a failure is about: the one for the host or, if the host is unknown, the one with the mail domain. ours
// reports whether the host is this one.
func (h *history) find(s tlsrpt.Sum) (c *certificate, ours bool) {
	for i := range h.certificates {
		if s.Host != "" && covers(h.certificates[i].names, s.Host) {
			return &h.certificates[i], true
		}
	}
	here := slices.ContainsFunc(s.Addresses, func(a string) bool {
		address, err := netip.ParseAddr(a)
		return err == nil && slices.Contains(h.addresses, address)
	})
	for i := range h.certificates {
		if slices.Contains(h.certificates[i].want.MailDomains, s.Domain) {
			return &h.certificates[i], here
		}
	}
	if here {
		return &h.certificates[0], true
	}
	return nil, false
}

// covers reports whether one of a certificate's names is a host, or a wildcard for it.
func covers(names []string, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) || strings.EqualFold(name, "*."+parent) })
}

// between lists what was in service in a period.
func (c *certificate) between(from, until time.Time) (list []service) {
	for _, s := range c.services {
		if s.from.Before(until) && (s.until.IsZero() || s.until.After(from)) {
			list = append(list, s)
		}
	}
	return list
}

// changed returns when a certificate first went into service after a time or, if none did, last before it; zero if none is known.
func (c *certificate) changed(after time.Time) (at time.Time) {
	for _, s := range c.services {
		if at = s.from; !at.Before(after) {
			break
		}
	}
	return at
}

// ownLook says what mxcert itself met when it looked as a sender to the domain of a failure; "" if it did not look.
func (c *certificate) ownLook(s tlsrpt.Sum) string {
	if c.senders.At.IsZero() || !slices.Contains(c.senders.Domains, s.Domain) {
		return ""
	}
	kind := map[string]string{"sts": "senders-mta_sts", "tlsa": "senders-dane"}[s.Policy]
	for _, f := range c.senders.Findings {
		about := f.Subject == s.Domain || s.Host != "" && strings.HasPrefix(f.Subject, s.Host)
		if about && (f.ID == kind || f.ID == s.Type || strings.Contains(f.ID, "tlsa") && s.Policy == "tlsa") {
			return "at " + report.Minute(c.senders.At) + " mxcert met this: " + finding.Quote(f.Message, finding.MostQuoted)
		}
	}
	return "at " + report.Minute(c.senders.At) + " mxcert met no such fault"
}
