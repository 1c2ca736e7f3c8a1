package configs

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The kinds of publisher: two words, and three sections.
const (
	publisherRFC2136    = "rfc2136"
	publisherHook       = "hook"
	publisherPowerDNS   = "powerdns"
	publisherDeSEC      = "desec"
	publisherCloudflare = "cloudflare"
)

func publishers() []string {
	return []string{publisherRFC2136, publisherHook, publisherPowerDNS, publisherDeSEC, publisherCloudflare}
}

// howToPublish is an example of each section.
func howToPublish(kind string) string {
	switch kind {
	case publisherPowerDNS:
		return `{powerdns: {url: "https://ns1.example.org:8081", key: "cred:pdns"}}`
	case publisherDeSEC, publisherCloudflare:
		return "{" + kind + `: {token: "cred:` + kind + `"}}`
	}
	return kind
}

// publisher decodes a word, or a mapping whose only key is the kind.
func (l *loader) publisher(n *yaml.Node, path string, to *Publisher) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value == "":
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && slices.Contains(publishers()[:2], n.Value):
		to.Kind = n.Value
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && slices.Contains(publishers(), n.Value):
		l.bad(path, "write publisher: "+howToPublish(n.Value), "%s needs settings", n.Value)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		l.bad(path, cmp.Or(suggest(n.Value, publishers()), "known: "+strings.Join(publishers(), ", ")), "%s is not a service that mxcert can publish with", quote(n.Value))
	case n.Kind != yaml.MappingNode:
		l.wrongType(n, path, "must be rfc2136, hook, or a section with one key: powerdns, desec or cloudflare")
	case len(n.Content) > 2:
		l.bad(path, "remove one of them: a record is published with one service; names at another go into a certificate of their own", "has %s, but a publisher is one service", count(len(n.Content)/2, "service"))
	default:
		l.publisherSection(n, path, to)
	}
}

func (l *loader) publisherSection(n *yaml.Node, path string, to *Publisher) {
	if len(n.Content) == 0 {
		return
	}
	l.hideAll(n.Content[1], "url")
	switch key := n.Content[0]; {
	case slices.Contains(publishers()[:2], key.Value):
		l.keyFault(path, key, quote(key.Value)+" is a word, not a section,", "write publisher: "+key.Value)
	case !slices.Contains(publishers(), key.Value):
		l.keyFault(path, key, "unknown publisher "+quote(key.Value), cmp.Or(suggest(key.Value, publishers()), "known: "+strings.Join(publishers(), ", ")))
	default:
		to.Kind = key.Value
		l.mapping(n, path, reflect.ValueOf(to).Elem())
	}
}

// hideAll keeps the values of a section out of messages, also those of misspelt keys. Those of the keys in open are no secrets.
func (l *loader) hideAll(n *yaml.Node, open ...string) {
	for i := 1; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if !slices.Contains(open, n.Content[i-1].Value) {
			l.hideValue(n.Content[i])
		}
	}
}

// hideValue keeps a text out of messages, unless it is a reference.
func (l *loader) hideValue(v *yaml.Node) {
	if v.Kind == yaml.ScalarNode && v.Value != "" && !isReference(v.Value) {
		where := spot{l.src.name, v.Line}
		l.index.secrets[where] = append(l.index.secrets[where], v.Value)
	}
}

// checkPublisher checks the settings of a section.
func (l *loader) checkPublisher(p string, pub *Publisher) {
	p = join(p, pub.Kind)
	name, secret, address := "token", pub.DeSEC.Token, pub.DeSEC.URL
	switch pub.Kind {
	case publisherPowerDNS:
		name, secret, address = "key", pub.PowerDNS.Key, pub.PowerDNS.URL
		if address == "" {
			l.missing(join(p, "url"), "write the address of the server's API, such as https://ns1.example.org:8081")
		}
	case publisherCloudflare:
		secret, address = pub.Cloudflare.Token, pub.Cloudflare.URL
	case publisherDeSEC:
	default:
		return
	}
	if secret == "" {
		l.missing(join(p, name), "write "+name+": cred:NAME, and put the value into "+credentials+"/NAME")
	}
	l.checkSecret(join(p, name), secret, variable{})
	if address == "" {
		return
	}
	if err := apiURL(address); err != nil {
		if strings.Contains(address, "@") {
			l.index.hide(join(p, "url"), address)
			address = hidden
		}
		l.bad(join(p, "url"), "write https://HOST", "%s: %v", quote(address), err)
	}
}

// checkBackend finds the service that takes the records: the one that is named, or that of the dns section.
func (l *loader) checkBackend(p string, cert *Certificate) {
	d := &cert.DANE
	updates := updatesAny(cert.DNS)
	where := join(p, "publisher")
	switch {
	case l.touched[where]:
	case d.Mode != danePublish && d.Publisher.Kind != "" && l.index.places[where].src != nil:
		l.warn(where, "write mode: publish, or remove it", "is used only to remove records that mxcert has published before, because mode is not publish")
	case d.Mode != danePublish:
	case d.Publisher.Kind == publisherRFC2136 && !updates:
		l.bad(where, "set dns.provider: rfc2136, or a zone of dns.zones, with the server and its key", "rfc2136 uses the settings of the dns section, and no account there is rfc2136")
	case d.Publisher.Kind == "" && !updates:
		l.bad(join(p, "mode"), "set publisher, for example publisher: "+howToPublish(likely(cert.DNS.Provider)), "publish needs a service that takes TLSA records: %s", reasonForNone(cert.DNS.Provider))
	case d.Publisher.Kind == "":
		d.Publisher.Kind = publisherRFC2136
		l.checkUpdated(p, cert)
	case d.Publisher.Kind == publisherRFC2136:
		l.checkUpdated(p, cert)
	}
}

// updatesAny reports whether some account of a dns section is one for dynamic updates.
func updatesAny(d DNS) bool {
	return d.Provider == publisherRFC2136 || slices.ContainsFunc(d.Zones, func(z Zone) bool { return z.Provider == publisherRFC2136 })
}

func reasonForNone(provider string) string {
	if provider == "" {
		return "no account of the dns section is rfc2136"
	}
	return "mxcert writes challenges with the DNS provider " + quote(provider) + ", but no TLSA records"
}

// likely returns the publisher for the service of a DNS provider.
func likely(provider string) string {
	switch provider {
	case "pdns":
		return publisherPowerDNS
	case publisherDeSEC, publisherCloudflare:
		return provider
	}
	return publisherHook
}

// checkUpdated warns of names in zones that an account without dynamic updates has. Their records can be written only if they are elsewhere.
func (l *loader) checkUpdated(p string, cert *Certificate) {
	for _, name := range slices.Concat(cert.Domains, cert.Optional) {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		account, zone := cert.DNS.Provider, ""
		for _, z := range cert.DNS.Zones {
			if covered([]Zone{z}, name) && len(z.Name) > len(zone) {
				account, zone = z.Provider, z.Name
			}
		}
		if account != publisherRFC2136 {
			l.warn(join(p, "publisher"), "set another publisher, or an account of dns.zones with provider rfc2136",
				"no account for dynamic updates covers %s: its TLSA records can be published only if _PORT._tcp.%s is a CNAME into a zone of one", name, name)
		}
	}
}

// encodePublisher writes a publisher as it was read.
func (e encoder) encodePublisher(pub Publisher) *yaml.Node {
	section := func(v any) *yaml.Node { return mappingOf(plain(pub.Kind), e.encodeStruct(reflect.ValueOf(v))) }
	switch pub.Kind {
	case "":
		return nil
	case publisherPowerDNS:
		return section(pub.PowerDNS)
	case publisherDeSEC:
		return section(pub.DeSEC)
	case publisherCloudflare:
		return section(pub.Cloudflare)
	}
	return text(pub.Kind)
}
