package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
	"mxcert/deploy/verdict"
)

// covered reports names and ports at which senders may find TLSA records that mxcert does not know of, and those that lack records.
func (r *records) covered(ctx context.Context) []finding.Finding {
	found := slices.Concat(r.without(ctx), r.otherPorts(ctx), r.aliases(ctx))
	if r.changes() {
		found = append(found, r.unproven()...)
	}
	return orWell(found, "dane.ports and the names of the certificate cover all TLSA records that were found")
}

// without names the owners that have no records.
func (r *records) without(ctx context.Context) (found []finding.Finding) {
	var none []string
	for _, v := range r.looked(ctx) {
		if v.Err == nil && v.Recursive.Denied() && len(recordsOf(v)) == 0 {
			none = append(none, v.Owner.Name())
		}
	}
	switch list := strings.Join(none, ", "); {
	case len(none) == 0:
	case r.settings.Mode == dane.Publish:
		found = append(found, well("%s: no TLSA records yet; mxcert tlsa show %s says what mxcert waits for", list, r.want.Name))
	case r.settings.Mode == dane.ByHand:
		found = append(found, doubtful("%s: no TLSA records", list).Next("mxcert tlsa show "+r.want.Name+" prints them for the zone file"))
	case len(none) < len(r.owners):
		found = append(found, well("%s: no TLSA records, so senders check nothing there", list))
	}
	return found
}

// otherPorts finds records of ports that dane.ports does not list.
func (r *records) otherPorts(ctx context.Context) []finding.Finding {
	var ports []int
	for _, port := range slices.Concat([]int{25}, r.want.MailPorts(), r.endpointPorts()) {
		if !slices.Contains(r.settings.Ports, port) && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	var others []dane.Owner
	for _, host := range r.hosts() {
		for _, port := range ports {
			others = append(others, dane.Owner{Host: host, Port: port})
		}
	}
	return each(others, func(o dane.Owner) []finding.Finding {
		set := r.resolver.LookTLSA(ctx, o.Name())
		if len(set.Records) == 0 {
			return nil
		}
		return []finding.Finding{doubtful("%s has TLSA records, but dane.ports does not list %d: mxcert does not judge them, and a new key can break clients that do", o.Name(), o.Port).
			About(o.Name()).Next(fmt.Sprintf("write dane: {ports: [%s]}", strings.Join(texts(slices.Concat(r.settings.Ports, []int{o.Port})), ", ")))}
	})
}

// aliases finds host names that are aliases: senders look for records below the name to which they lead first (RFC 7672 section 2.2.2).
func (r *records) aliases(ctx context.Context) []finding.Finding {
	return each(r.hosts(), func(host string) []finding.Finding {
		base := r.resolver.LookIPv4(ctx, host).Final
		if base == "" || base == host || slices.Contains(r.want.Names, base) {
			return nil
		}
		o := dane.Owner{Host: base, Port: r.settings.Ports[0]}
		if len(r.resolver.LookTLSA(ctx, o.Name()).Records) == 0 {
			return nil
		}
		return []finding.Finding{doubtful("%s is an alias of %s, and senders use the TLSA records at %s first, which mxcert does not judge", host, base, o.Name()).
			About(host).Next("add " + base + " to domains, or remove these records")}
	})
}

// unproven names ports whose keys no endpoint proves, so that mxcert would not notice what is served there.
func (r *records) unproven() []finding.Finding {
	endpoints := r.endpointPorts()
	if len(endpoints) == 0 {
		return nil // package configs has said so
	}
	var found []finding.Finding
	for _, port := range r.settings.Ports {
		if !slices.Contains(endpoints, port) {
			found = append(found, doubtful("no endpoint proves which key port %d serves, although dane.ports lists it", port).About(strconv.Itoa(port)).
				Next(fmt.Sprintf("write verify: {endpoints: [%s]}", strings.Join(append(quoted(r.want.Endpoints()), fmt.Sprintf(`"127.0.0.1:%d"`, port)), ", "))))
		}
	}
	return found
}

func (r *records) endpointPorts() (ports []int) {
	for _, endpoint := range r.want.Endpoints() {
		_, text, err := net.SplitHostPort(endpoint)
		if port, bad := strconv.Atoi(text); err == nil && bad == nil && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// hosts lists the hosts of the owners, each once.
func (r *records) hosts() (hosts []string) {
	for _, o := range r.owners {
		if !slices.Contains(hosts, o.Host) {
			hosts = append(hosts, o.Host)
		}
	}
	return hosts
}

// others reports records that fit no key of this certificate, and with mode publish those that fit, but that mxcert did not make.
func (r *records) others(ctx context.Context) []finding.Finding {
	remembered := r.remembered()
	chains := r.chains()
	var found []finding.Finding
	foreign := 0
	for _, v := range r.looked(ctx) {
		for _, text := range recordsOf(v) {
			record, err := resolve.ParseTLSA(text)
			if err != nil || known(remembered, v, text) {
				continue
			}
			foreign++
			f, said := r.foreign(v.Owner, record, text, chains)
			if said {
				found = append(found, f)
			}
		}
	}
	if foreign == 0 {
		return r.orWell(ctx, found, "every TLSA record at these names is of mxcert, or there is none")
	}
	return orWell(found, "mxcert did not make %s; all of them fit the certificate, and mxcert leaves them alone", counted(foreign, "TLSA record", "TLSA records"))
}

// known reports whether a record is of mxcert.
func known(s dane.State, v dane.View, text string) bool {
	return slices.ContainsFunc(s.Ours, func(o dane.Ours) bool {
		return o.Record == text && (resolve.PlainName(o.Owner) == v.Owner.Name() || len(v.Steps) > 0 && resolve.PlainName(o.Owner) == resolve.PlainName(v.Steps[len(v.Steps)-1].Name))
	}) || slices.ContainsFunc(nextOf(s), func(spki string) bool { return text == dane.Record(spki).String() })
}

func nextOf(s dane.State) (list []string) {
	for _, roll := range s.Keys {
		if roll != nil && roll.Next != "" {
			list = append(list, roll.Next)
		}
	}
	return list
}

// foreign says what a record of others means.
func (r *records) foreign(o dane.Owner, record resolve.TLSA, text string, chains [][]*x509.Certificate) (f finding.Finding, said bool) {
	if len(chains) == 0 {
		return f, false // nothing to compare with
	}
	text = short(text)
	usable, fits := true, false
	for _, chain := range chains {
		fit := verdict.FitTLSA([]resolve.TLSA{record}, chain, []string{o.Host}, time.Now(), false)
		usable, fits = fit.Checked, fits || fit.Checked && fit.Accepts
	}
	check := "mxcert tlsa check " + r.want.Name + " shows all records; mxcert removes none that it did not make"
	switch {
	case fits && r.settings.Mode == dane.Publish:
		return doubtful("%s: the record %s fits, but mxcert did not make it, and would leave it there when the key changes", o.Name(), text).About(o.Name()).
			Next("mxcert tlsa publish " + r.want.Name + " --adopt takes it over"), true
	case fits:
		return f, false
	case !usable:
		return doubtful("%s: senders ignore the record %s (RFC 7672 section 3.1.3)", o.Name(), text).About(o.Name()).Next("remove it, or publish 3 1 1; " + check), true
	}
	if r.old(record) {
		return doubtful("%s: the record %s is of an old key of this certificate, and mxcert did not make it", o.Name(), text).About(o.Name()).
			Next("mxcert tlsa show " + r.want.Name + " says when it can be removed; mxcert removes none that it did not make"), true
	}
	return doubtful("%s: the record %s fits no certificate of this host", o.Name(), text).About(o.Name()).
		Next("leave it if another host serves its key, otherwise remove it; " + check), true
}

// old reports whether a record 3 1 1 names a key of an earlier certificate.
func (r *records) old(record resolve.TLSA) bool {
	text := record.String()
	generations, _ := r.Runner.Store.Lineage(r.want.Name).Generations() // without them, nothing is known about old keys
	for _, g := range generations {
		if dane.Record(g.SPKI).String() == text {
			return true
		}
	}
	return false
}

// chains are those of the issued certificates.
func (r *records) chains() (chains [][]*x509.Certificate) {
	have, err := issued.Look(r.Runner.Store.Lineage(r.want.Name), r.want.Keys)
	if err != nil {
		return nil
	}
	for _, b := range have.Bundles {
		if b != nil {
			chains = append(chains, b.Chain())
		}
	}
	return chains
}

// recordsOf lists the records that servers give, each once, sorted; those of the recursive resolver if no server was asked.
func recordsOf(v dane.View) (list []string) {
	for _, set := range v.Sets() {
		list = append(list, set.Records...)
	}
	for _, record := range v.Recursive.Records {
		list = append(list, record.String())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// mx reports mail domains whose MX records are not signed: their senders do not use TLSA records (RFC 7672 section 2.2.1).
func (r *records) mx(ctx context.Context) []finding.Finding {
	if len(r.want.MailDomains) == 0 {
		return []finding.Finding{well("mail_domains is not set, so whether the MX records of your mail domains are signed was not looked at; mxcert verify --domain DOMAIN shows it")}
	}
	found := each(r.want.MailDomains, func(domain string) []finding.Finding {
		set := r.resolver.LookMX(ctx, domain)
		switch {
		case set.State == resolve.Bogus:
			return []finding.Finding{bad("the MX records of %s are bogus (DNSSEC): senders that validate keep the mail: %s", domain, reasonOf(set.Err)).About(domain).Next(hintOr(set.Err, "delv "+domain+" MX"))}
		case set.Err != nil:
			return []finding.Finding{doubtful("the MX records of %s cannot be asked for: %s", domain, reasonOf(set.Err)).About(domain).Next(hintOr(set.Err, "dig "+domain+" MX"))}
		case set.State == resolve.Insecure && set.Validator != "":
			return []finding.Finding{doubtful("the MX records of %s are not signed (DNSSEC), so senders to %s use no TLSA records, whatever they are", domain, domain).About(domain).Next("sign the zone of " + domain + ", and have its DS record put into the zone above")}
		}
		return nil
	})
	return orWell(found, "the MX records of %s are signed, as far as this host can know", counted(len(r.want.MailDomains), "mail domain", "mail domains"))
}

func texts(list []int) (out []string) {
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

func quoted(list []string) (out []string) {
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return out
}

// short shortens a record for a message: nobody compares long digests by eye.
func short(record string) string {
	const most = 24
	if len(record) <= most {
		return record
	}
	return record[:most] + "…"
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
