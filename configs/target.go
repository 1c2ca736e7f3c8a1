package configs

import (
	"cmp"
	"path"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// target decodes an element of deploy: a mapping whose only key is the kind.
func (l *loader) target(n *yaml.Node, path string, to *Target) {
	kinds := []string{"exim", "files", "postfix", "dovecot"}
	if n.Kind != yaml.MappingNode {
		l.wrongType(n, path, "must be a section with one key, exim or files")
		return
	}
	if len(n.Content) != 2 {
		hint := "a second target begins with a - of its own"
		if len(n.Content) > 2 && n.Content[1].Tag == "!!null" {
			hint = "indent the lines below " + printable(n.Content[0].Value) + ": further than it"
		}
		l.bad(path, hint, "a target has one key, its kind: exim or files")
		return
	}
	key, value := n.Content[0], n.Content[1]
	p := join(path, key.Value)
	if !slices.Contains(kinds, key.Value) {
		l.keyFault(path, key, "unknown kind of target "+quote(key.Value), cmp.Or(suggest(key.Value, kinds), "known: exim, files"))
		return
	}
	l.place(p, key, value)
	if l.refuse(p, value) {
		return
	}
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
	pair := len(t.Certificate) > 0 || len(t.PrivateKey) > 0
	switch {
	case !pair && t.Combined == "":
		if !l.touched[p] {
			l.missing(join(p, "certificate"), "give certificate and private_key, or combined")
		}
	case pair && len(t.Certificate) == 0:
		l.missing(join(p, "certificate"), "give both certificate and private_key")
	case pair && len(t.PrivateKey) == 0:
		l.missing(join(p, "private_key"), "a certificate is of no use without its key: give both, or combined")
	case pair && t.Combined != "" && t.Kind == "exim":
		l.bad(join(p, "combined"), "Exim reads either: remove combined, or certificate and private_key", "is given together with certificate and private_key")
	}
	l.checkTemplates(join(p, "certificate"), c, t.Certificate)
	l.checkTemplates(join(p, "private_key"), c, t.PrivateKey)
	if t.Combined != "" {
		l.checkTemplates(join(p, "combined"), c, []string{t.Combined})
	}
}

// checkUnit fills in unit and reload and checks that they make sense together.
func (l *loader) checkUnit(p string, t *Target) {
	if t.Unit == "" && t.Kind == "exim" {
		t.Unit = "exim4.service"
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
	case !isUnitName(t.Unit):
		l.bad(join(p, "unit"), "", "%s is not the name of a systemd unit", quote(t.Unit))
	case t.Unit == "postfix.service":
		l.warn(join(p, "unit"), "on Debian the unit is postfix@-.service", "reloading postfix.service does nothing on Debian")
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
		l.bad(p, "put {key} into the path, or give a list in the order of keys", "%s is the same for all of %d keys", quote(list[0]), len(c.Keys))
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
			l.bad(p, "placeholders are {name} and {key}", "%s has a brace without its partner", quote(s))
			return
		case !found:
			l.checkPath(p, s)
			return
		case name != "name" && name != "key":
			hint := cmp.Or(suggest(name, []string{"name", "key"}), "placeholders are {name} and {key}")
			l.bad(p, hint, "unknown placeholder {%s}", printable(name))
			return
		}
		rest = behind
	}
}

// checkCollisions checks that no path is written twice, and none inside the state directory.
func (l *loader) checkCollisions(c *Config) {
	taken := map[string]string{}
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		for j, t := range cert.Deploy {
			p := join(at(join(at("certificates", i), "deploy"), j), t.Kind)
			for k, key := range cert.Keys {
				crt, prv, combined := t.Paths(cert.Name, key, k)
				l.claim(taken, join(p, "certificate"), crt, c.State)
				l.claim(taken, join(p, "private_key"), prv, c.State)
				l.claim(taken, join(p, "combined"), combined, c.State)
			}
		}
	}
}

// claim takes a file for the setting at p, unless another setting has it.
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
		hint := "it is written by " + other + " too (" + l.index.position(other) + "); give each a path of its own"
		if path.Dir(p) == path.Dir(other) && strings.HasSuffix(p, "private_key") && strings.HasSuffix(other, "certificate") {
			hint = "for one file with both use combined"
		}
		l.bad(p, hint, "%s is written twice", quote(file))
	default:
		taken[file] = p
	}
}
