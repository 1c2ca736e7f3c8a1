package configs

import (
	"cmp"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The kinds of target.
const (
	kindExim    = "exim"
	kindPostfix = "postfix"
	kindDovecot = "dovecot"
	kindFiles   = "files"
)

// target decodes an element of deploy: a mapping whose only key is the kind.
func (l *loader) target(n *yaml.Node, path string, to *Target) {
	kinds := []string{kindExim, kindPostfix, kindDovecot, kindFiles}
	if n.Kind != yaml.MappingNode {
		l.wrongType(n, path, "must be a section with one key: exim, postfix, dovecot or files")
		return
	}
	if len(n.Content) != 2 {
		hint := "start a second target with its own -"
		if len(n.Content) > 2 && n.Content[1].Tag == "!!null" {
			hint = "indent the lines that belong to " + printable(n.Content[0].Value) + " further than it"
		}
		l.bad(path, hint, "a target has one key, its kind: exim, postfix, dovecot or files")
		return
	}
	key, value := n.Content[0], n.Content[1]
	p := join(path, key.Value)
	if !slices.Contains(kinds, key.Value) {
		l.keyFault(path, key, "unknown kind of target "+quote(key.Value), cmp.Or(suggest(key.Value, kinds), "known: "+strings.Join(kinds, ", ")))
		return
	}
	l.place(p, key, value)
	to.Kind = key.Value
	if value = l.resolve(value, p); value != nil {
		l.mapping(value, p, reflect.ValueOf(to).Elem())
	}
}

// checkTarget checks one target of certificate c and fills in what depends on its kind.
func (l *loader) checkTarget(p string, c *Certificate, t *Target) {
	if t.Kind == "" {
		return
	}
	p = join(p, t.Kind)
	l.checkUnit(p, t)
	l.checkOwner(join(p, "owner"), t.Owner)
	l.checkOwner(join(p, "group"), t.Group)
	l.checkLayout(p, t)
	l.checkSNIMap(p, t)
	l.checkStaple(p, c, t)
	l.checkTemplates(join(p, "certificate"), c, t.Certificate)
	l.checkTemplates(join(p, "private_key"), c, t.PrivateKey)
	if t.Combined != "" {
		l.checkTemplates(join(p, "combined"), c, []string{t.Combined})
	}
	if t.Directory != "" {
		l.checkTemplates(join(p, "directory"), c, []string{t.Directory})
	}
}

// checkLayout checks that the paths of a target make one layout.
func (l *loader) checkLayout(p string, t *Target) {
	pair := len(t.Certificate) > 0 || len(t.PrivateKey) > 0
	switch {
	case !pair && t.Combined == "" && t.Directory == "":
		if !l.touched[p] {
			l.missing(join(p, "certificate"), "give certificate and private_key, or combined, or directory")
		}
	case pair && len(t.Certificate) == 0:
		l.missing(join(p, "certificate"), "give both certificate and private_key")
	case pair && len(t.PrivateKey) == 0:
		l.missing(join(p, "private_key"), "a certificate is useless without its key: give both, or combined")
	case pair && t.Combined != "" && t.Kind != kindFiles:
		l.bad(join(p, "combined"), server(t.Kind)+" reads either: remove combined, or certificate and private_key", "is given together with certificate and private_key")
	case t.Directory != "" && (pair || t.Combined != "") && t.Kind != kindFiles:
		l.bad(join(p, "directory"), server(t.Kind)+" reads either: the files are in the directory, named fullchain.pem, privkey.pem and combined.pem", "is given together with other paths")
	}
}

// server returns a kind as a person writes it.
func server(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// checkSNIMap checks the map and the files that it can name.
func (l *loader) checkSNIMap(p string, t *Target) {
	where := join(p, "sni_map")
	versioned := strings.Contains(t.Combined, "{serial}")
	switch {
	case versioned && (t.SNIMap == "" || t.Kind != kindExim):
		l.bad(join(p, "combined"), "give sni_map too (exim), or leave {serial} out", "%s changes with every certificate: only a map can name it", quote(t.Combined))
	case t.SNIMap == "":
	case t.Kind != kindExim && t.Kind != kindPostfix:
		l.bad(where, "remove it", "there is no map for %s", t.Kind)
	case t.Kind == kindExim && !versioned:
		l.bad(where, `write for example combined: "/etc/exim4/tls/{name}.{key}.{serial}.pem"`, "names combined files with {serial} in their path")
	case t.Directory != "":
		l.bad(where, "give combined, or certificate and private_key", "cannot name files in a directory that changes")
	default:
		file := t.SNIMap
		if kind, rest, found := strings.Cut(file, ":"); found && t.Kind == kindPostfix && kind != "" && onlyHas(kind, lower) {
			file = rest
		}
		l.checkPath(where, file)
	}
}

// checkUnit fills in unit and reload and checks that they make sense together. An empty unit stays empty: nothing is reloaded.
func (l *loader) checkUnit(p string, t *Target) {
	if _, written := l.index.places[join(p, "unit")]; !written {
		t.Unit = map[string]string{kindExim: "exim4.service", kindPostfix: "postfix.service", kindDovecot: "dovecot.service"}[t.Kind]
	}
	switch {
	case t.Unit == "" && (t.Reload == "always" || t.Reload == "auto"):
		l.bad(join(p, "reload"), "add unit, or write reload: never", "%s needs a unit to reload", t.Reload)
	case t.Unit == "":
		t.Reload = "never"
	case !strings.HasSuffix(t.Unit, ".service"):
		hint := "only services can be reloaded"
		if isUnitName(t.Unit+".service") && path.Ext(t.Unit) == "" {
			hint = "did you mean " + quote(t.Unit+".service") + "?"
		}
		l.bad(join(p, "unit"), hint, "%s does not end in .service", quote(t.Unit))
	case strings.HasSuffix(t.Unit, "@.service"):
		name := strings.TrimSuffix(t.Unit, ".service")
		l.bad(join(p, "unit"), fmt.Sprintf("name an instance, such as %s (systemctl list-units '%s*')", quote(name+"-.service"), name),
			"%s is a template, which systemd cannot reload", quote(t.Unit))
	case !isUnitName(t.Unit):
		l.bad(join(p, "unit"), "", "%s is not the name of a systemd unit", quote(t.Unit))
	}
	if t.Reload == "auto" && (t.Kind == kindPostfix || t.Kind == kindDovecot) {
		l.bad(join(p, "reload"), "leave it out: a reload of "+server(t.Kind)+" loses no connection", "%s does not notice changed files on its own", server(t.Kind))
	}
	if t.Reload == "" {
		t.Reload = "always"
	}
}

// isUnitName checks the characters of a unit name (systemd.unit(5)).
func isUnitName(s string) bool {
	return len(s) <= 255 && len(s) > len(".service") && onlyHas(s, alnum+":_.@-\\")
}

// checkOwner checks the form of a user or group: a name, or a number.
func (l *loader) checkOwner(p, name string) {
	if len(name) > 32 || !onlyHas(name, alnum+"_.-$") || strings.HasPrefix(name, "-") {
		l.bad(p, "write a name or a number in quotes", "%s is not a user or group", quote(name))
	}
}

// checkTemplates checks the paths in one setting of a target, for all keys of the certificate.
func (l *loader) checkTemplates(p string, c *Certificate, list []string) {
	several := len(list) > 1 && len(list) != len(c.Keys)
	if several && !l.touched[p] {
		l.bad(p, "give one path a key, in the order of keys, or one path with {key}", "%d paths for %s", len(list), count(len(c.Keys), "key"))
		return
	}
	for i, s := range list {
		where := p
		if _, ok := l.index.places[at(p, i)]; ok {
			where = at(p, i)
		}
		l.checkTemplate(where, s)
	}
	if len(list) == 1 && len(c.Keys) > 1 && !strings.Contains(list[0], "{key}") {
		l.bad(p, "put {key} into the path, or give a list in the order of keys", "%s is the same for all %d keys", quote(list[0]), len(c.Keys))
	}
}

// checkTemplate checks one path and its placeholders.
func (l *loader) checkTemplate(p, s string) {
	rest := s
	for {
		before, after, found := strings.Cut(rest, "{")
		name, behind, closed := strings.Cut(after, "}")
		switch {
		case strings.Contains(before, "}") || found && !closed:
			l.bad(p, placeholderHint(p), "%s has a brace without its partner", quote(s))
			return
		case !found:
			l.checkPath(p, s)
			return
		case name != "name" && name != "key" && (name != "serial" || !strings.HasSuffix(p, ".combined")):
			l.bad(p, cmp.Or(suggest(name, []string{"name", "key"}), placeholderHint(p)), "unknown placeholder {%s}", printable(name))
			return
		}
		rest = behind
	}
}

func placeholderHint(p string) string {
	if strings.HasSuffix(p, ".combined") {
		return "placeholders are {name} and {key}, and with sni_map {serial}"
	}
	return "placeholders are {name} and {key}"
}

// checkCollisions checks that no path is written twice, and none inside the state directory. Two servers may read the same files: then the
// first of the targets writes them, and both servers are reloaded.
func (l *loader) checkCollisions(c *Config) {
	taken, maps := map[string]string{}, map[string]string{}
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		for j, t := range cert.Deploy {
			p := join(at(join(at("certificates", i), "deploy"), j), t.Kind)
			l.claimMap(taken, maps, join(p, "sni_map"), t, c.State)
			if l.shares(p, cert.Deploy[:j], t) {
				l.sharedStaple(p, t)
				continue
			}
			for k, key := range cert.Keys {
				crt, prv, combined := t.Paths(cert.Name, key, k)
				l.claim(taken, join(p, "certificate"), crt, c.State)
				l.claim(taken, join(p, "private_key"), prv, c.State)
				l.claim(taken, join(p, "combined"), combined, c.State)
				if staple := t.StaplePath(cert.Name, key); staple != "" {
					l.claim(taken, join(p, "ocsp"), staple, c.State)
					l.claim(taken, join(p, "ocsp"), staple+".served", c.State) // the copy, see deploy.ServedSuffix
				}
				if link := t.LinkPath(cert.Name, key); link != "" {
					l.claim(taken, join(p, "directory"), link, c.State)
					l.claim(taken, join(p, "directory"), link+".generations", c.State)
				}
			}
		}
	}
}

// shares reports whether a target of another kind before this one names the same files. They belong to the owner that the first one names.
func (l *loader) shares(p string, earlier []Target, t Target) bool {
	for _, e := range earlier {
		if !e.SameFiles(t) || e.Kind == t.Kind {
			continue
		}
		if t.Owner != "" && t.Owner != e.Owner || t.Group != "" && t.Group != e.Group || t.Mode != 0 && t.Mode != e.Mode {
			l.bad(p, "write owner, group and mode into the target "+e.Kind+", which comes first", "the target %s writes the same files, with another owner, group or mode", e.Kind)
		}
		return true
	}
	return false
}

// claimMap claims a map for all targets of the same kind that name it.
func (l *loader) claimMap(taken, maps map[string]string, p string, t Target, state string) {
	kind, file := t.Kind, t.SNIMap
	if i := strings.Index(file, ":/"); i >= 0 {
		kind, file = kind+":"+file[:i], file[i+1:]
	}
	other, shared := maps[file]
	switch {
	case file == "" || shared && other == kind:
	case shared:
		l.bad(p, "give each kind of table a file of its own", "%s is also written as another kind of map (%s)", quote(file), other)
	default:
		l.claim(taken, p, file, state)
		maps[file] = kind
	}
}

// claim claims a file for the setting at p, unless another setting already has it.
func (l *loader) claim(taken map[string]string, p, file, state string) {
	if file == "" {
		return
	}
	if strings.HasPrefix(file, state+"/") {
		l.bad(p, "write to the directory of the mail server", "%s is inside the state directory", quote(file))
		return
	}
	other, used := taken[file]
	switch {
	case used:
		hint := other + " also writes it (" + l.index.position(other) + "); give each a path of its own"
		if path.Dir(p) == path.Dir(other) && strings.HasSuffix(p, "private_key") && strings.HasSuffix(other, "certificate") {
			hint = "for one file with both use combined"
		}
		l.bad(p, hint, "%s is written twice", quote(file))
	default:
		taken[file] = p
	}
}
