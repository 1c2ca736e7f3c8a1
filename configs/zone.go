package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// zones decodes the mapping of dns.zones. A key is written as people write a zone: zoneName normalises it.
func (l *loader) zones(n *yaml.Node, path string, to *[]Zone) {
	if n.Kind == yaml.MappingNode {
		*to = []Zone{} // {} means none, for a certificate that does not want those of the section above
	}
	l.entries(n, path, func(key, value *yaml.Node) {
		z := Zone{Name: key.Value, Path: zonePath(path, key.Value)}
		l.place(z.Path, key, value)
		l.decode(value, z.Path, reflect.ValueOf(&z).Elem(), field{})
		*to = append(*to, z)
	})
}

// zonePath is the path of one zone. The brackets keep the dots of its name apart from those of the path.
func zonePath(path, name string) string { return path + "[" + printable(name) + "]" }

// checkZones checks the zones of a dns section, and normalises their names.
func (l *loader) checkZones(p string, zones []Zone) {
	first := map[string]string{}
	for i := range zones {
		z := &zones[i]
		name, err := zoneName(z.Name)
		other, twice := first[name]
		switch {
		case err != nil:
			l.zoneFault(z, "", fmt.Sprintf("%s: %s cannot be a zone: %v", p, quote(z.Name), err))
			continue
		case twice:
			l.zoneFault(z, "remove one of the two", fmt.Sprintf("%s: %s is the same zone as the one at %s", p, quote(z.Name), l.index.position(other)))
			continue
		}
		first[name], z.Name = z.Path, name
		if z.Provider == "" {
			l.missing(join(z.Path, "provider"), "`mxcert providers` lists the names; a zone takes neither provider nor env from the dns section")
		}
		l.checkProvider(z.Path, z.Provider)
		l.checkEnv(z.Path, z.Env, z.Provider)
	}
}

// zoneFault records a fault in the name of a zone, at its key.
func (l *loader) zoneFault(z *Zone, hint, message string) {
	where := l.index.places[z.Path]
	p := where.src.problem(where.kline, where.kcol)
	p.Path, p.Message, p.Hint = z.Path, message, hint
	l.add(p)
}

// zoneName normalises the name of a zone, or of one name in it: lower-case A-labels without the trailing dot. Unlike a host name it may
// have labels with an underscore, such as _acme-challenge.
func zoneName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	switch {
	case name == "":
		return "", errors.New("it is empty; dns.provider proves the names that are in none of the zones")
	case strings.Contains(name, "*"):
		return "", errors.New("a zone stands for all names below it; write it without a wildcard")
	case isAddress(name):
		return "", errors.New("an IP address is not a zone")
	case strings.Contains(name, "://"):
		return "", errors.New("this is a URL; write the name of the zone alone")
	case strings.Contains(name, "@"):
		return "", errors.New("this is a mail address; write the name of the zone alone")
	}
	labels := strings.Split(name, ".")
	underscored := map[int]string{}
	for i, label := range labels {
		if strings.Contains(label, "_") && onlyHas(label, alnum+"-_") {
			underscored[i], labels[i] = strings.ToLower(label), strings.ReplaceAll(strings.ReplaceAll(label, "_", "x"), "-", "x")
		}
	}
	ascii, err := asciiName(strings.Join(labels, "."))
	if err != nil {
		return "", err
	}
	if len(underscored) > 0 {
		labels = strings.Split(ascii, ".")
		for i, label := range underscored {
			labels[min(i, len(labels)-1)] = label
		}
		ascii = strings.Join(labels, ".")
	}
	if len(ascii) > 253 {
		return "", errors.New("it is longer than 253 characters")
	}
	return ascii, nil
}

// checkCovered warns of names of a certificate without dns.provider that are in none of the zones. They can be proven only through a CNAME,
// which cannot be known without the network.
func (l *loader) checkCovered(p string, cert *Certificate) {
	for i, domain := range cert.Domains {
		base := strings.TrimPrefix(domain, "*.")
		if covered(cert.DNS.Zones, "_acme-challenge."+base) {
			continue
		}
		l.warn(at(join(p, "domains"), i), "add its zone to dns.zones, or set dns.provider for all other names",
			"%s is in none of dns.zones, and there is no dns.provider: it can be proven only if _acme-challenge.%s is a CNAME into one of them", domain, base)
	}
}

func covered(zones []Zone, name string) bool {
	for _, z := range zones {
		if name == z.Name || strings.HasSuffix(name, "."+z.Name) {
			return true
		}
	}
	return false
}

// encodeZones writes the zones as the mapping that they were read from.
func (e encoder) encodeZones(zones []Zone) *yaml.Node {
	if zones == nil {
		return nil
	}
	n := mappingOf()
	for _, z := range zones {
		z.Env = e.shown(z.Provider, z.Env)
		n.Content = append(n.Content, text(z.Name), e.encodeStruct(reflect.ValueOf(z)))
	}
	return n
}
