package wanted

import (
	"cmp"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
	"mxcert/configs"
)

// Found is a name that looks at MX records have found, or that only other hosts of the fleet want.
type Found struct {
	Name   string // a lower-case A-label
	Reason string // "MX of DOMAIN", "host name" or "wanted by HOST"
}

// Configured is the reason of a name that stands in the configuration.
const Configured = "configured"

// WithFound adds names that looks have found, behind those of the configuration, which win. It leaves out those that a wildcard of the
// configuration covers, because CAs refuse to certify both, and those that are more than the CAs allow. over are the latter. A certificate
// without mail domains gets none.
func (c Certificate) WithFound(list []Found) (with Certificate, over []Found) {
	configured := slices.Concat(c.source.Domains, c.source.Optional)
	c.Names, c.Optional, c.Found = slices.Clone(configured), slices.Clone(c.source.Optional), nil
	if len(c.MailDomains) == 0 {
		return c, nil
	}
	return c.with(list)
}

// WithOthers adds names that only other hosts of the fleet want, behind all others. They are optional here: a name that another host has
// written wrongly must not keep this host from its certificate. That host requires it, and takes no certificate without it.
func (c Certificate) WithOthers(list []Found) (with Certificate, over []Found) {
	c.Names, c.Optional, c.Found = slices.Clone(c.Names), slices.Clone(c.Optional), slices.Clone(c.Found)
	return c.with(list)
}

// with adds optional names.
func (c Certificate) with(list []Found) (with Certificate, over []Found) {
	configured := slices.Concat(c.source.Domains, c.source.Optional)
	for _, f := range list {
		_, above, _ := strings.Cut(f.Name, ".")
		switch {
		case slices.Contains(c.Names, f.Name) || slices.Contains(configured, "*."+above):
		case len(c.Names) >= c.mostNames():
			over = append(over, f)
		default:
			c.Names, c.Optional, c.Found = append(c.Names, f.Name), append(c.Optional, f.Name), append(c.Found, f)
		}
	}
	return c, over
}

// mostNames returns how many names each of the CAs certifies together.
func (c Certificate) mostNames() int {
	most := authority.MostNames("", "")
	for _, directory := range c.Directories {
		most = min(most, authority.MostNames(directory, c.Profile))
	}
	return most
}

// Reasons returns why each name is wanted: "configured", "MX of DOMAIN", "host name" or "wanted by HOST".
func (c Certificate) Reasons() map[string]string {
	reasons := make(map[string]string, len(c.Names))
	for _, name := range c.Names {
		reasons[name] = cmp.Or(c.Reason(name), Configured)
	}
	return reasons
}

// Reason returns why looks have found a name; "" if they have not, or the name is configured.
func (c Certificate) Reason(name string) string {
	i := slices.IndexFunc(c.Found, func(f Found) bool { return f.Name == name })
	if i < 0 {
		return ""
	}
	return c.Found[i].Reason
}

// NamesOf returns the names for which a server shows a certificate: those of the configuration, and with mail domains those that the
// certificate also has. The programs of root know no look, and must believe no name that somebody has put into a certificate of
// his own: so the latter count only in a certificate that leads to a root of acme.roots_file or, if there is none, of the system.
func (c Certificate) NamesOf(b *bundle.Bundle) []string {
	names := slices.Concat(c.source.Domains, c.source.Optional)
	if len(c.MailDomains) == 0 || !proven(b, c.Roots) {
		return names
	}
	for _, name := range b.Leaf().DNSNames {
		if name = strings.ToLower(name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// proven reports whether a CA that counts has issued a certificate. That it has expired does not matter.
func proven(b *bundle.Bundle, roots *x509.CertPool) bool {
	at := time.Now()
	if at.After(b.NotAfter()) {
		at = b.NotAfter()
	}
	warnings, err := b.Check(bundle.Want{Roots: roots, At: at})
	return err == nil && len(warnings) == 0
}

// PublicAddresses returns those of the configuration.
func PublicAddresses(config *configs.Config) (list []netip.Addr) {
	for _, text := range config.PublicAddresses {
		if a, err := netip.ParseAddr(text); err == nil { // the configuration was checked
			list = append(list, a)
		}
	}
	return list
}
