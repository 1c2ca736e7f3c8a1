// Package adopt takes over what other ACME clients left on a host: the trees of certbot, acme.sh and lego as bundles and accounts.
// It never changes a file of the other client and orders nothing: key, certificate and account stay the same.
//
// [Read] reads a tree; [Take] stores one certificate of it. Hooks and DNS settings become notes and a proposal for the
// configuration, on which a person decides. Texts of the other client are quoted in them.
//
// Not supported: writing the configuration, switching the other client off, trees of other clients.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Foreign is what another client has left of one certificate.
type Foreign struct {
	Source     string   // directory or file it was read from
	Name       string   // as the other client calls it
	Chain, Key []byte   // PEM
	Directory  string   // URL of the CA's directory; "" if not known
	Account    Account  // at that CA
	Provider   string   // DNS provider, by the other client's name; "" if it used none
	Hooks      []string // proposals for hooks, in words
	Notes      []string // for the operator
}

// Account is the account of the other client. The zero Account means that no usable account was found.
type Account struct {
	URL, Email string
	Key        []byte // PEM
}

var (
	errNoAccount   = errors.New("the tree has none for this CA")
	errCompromised = errors.New("its key is one that mxcert revoked as compromised, and never uses again; order a certificate with a new key: mxcert renew NAME --now")
)

// withoutAccount is the note about an account that cannot be taken over.
func withoutAccount(err error) string {
	return fmt.Sprintf("no account is taken over (%v); mxcert registers a new one", err)
}

// Clients returns the names of the clients whose trees can be read.
func Clients() []string { return []string{"certbot", "acme.sh", "lego"} }

// UsualPath returns where a client usually keeps its tree.
func UsualPath(client string) string {
	return map[string]string{"certbot": "/etc/letsencrypt", "acme.sh": "/root/.acme.sh", "lego": "/root/.lego"}[client]
}

// Read reads the files of a client, one of [Clients]. The error joins everything that could not be read; Read returns the rest as well.
func Read(client, path string) ([]Foreign, error) {
	switch client {
	case "certbot":
		return fromCertbot(path)
	case "acme.sh":
		return fromAcmeSh(path)
	}
	return fromLego(path)
}

// Configured is a certificate that the configuration names.
type Configured struct {
	Name  string
	Names []string // DNS names
	Keys  []bundle.KeyType
}

// Options say how to take over.
type Options struct {
	Configured []Configured
	DryRun     bool // change nothing
	Force      bool // even if mxcert has a certificate for the same names
}

// Taken is one certificate in the result of import.
type Taken struct {
	Name     string    `json:"name"` // of the certificate in mxcert
	From     string    `json:"from"`
	Names    []string  `json:"names"`
	Key      string    `json:"key"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Account  string    `json:"account"` // URL; "" if no account was taken over
	Stored   bool      `json:"stored"`
	Notes    []string  `json:"notes"`
	Proposal string    `json:"proposal"` // for the configuration; "" if it names the certificate already
	Error    string    `json:"error,omitempty"`
}

// Take stores one certificate. Its name is the one that the configuration uses for these DNS names, otherwise a new one.
func Take(ctx context.Context, store *state.Book, f Foreign, o Options) (Taken, error) {
	one := Taken{From: f.Source, Names: []string{}, Notes: append([]string{}, f.Notes...)}
	one.Notes = append(one.Notes, f.Hooks...)
	b, err := bundle.Parse(f.Chain, f.Key)
	if err != nil {
		return one, err
	}
	one.Names, one.Key, one.Serial, one.NotAfter = b.Leaf().DNSNames, string(b.KeyType()), b.Serial(), b.NotAfter().UTC()
	i := slices.IndexFunc(o.Configured, func(c Configured) bool { return issued.SameNames(c.Names, b.Leaf().DNSNames) })
	if i < 0 {
		one.Name = lineageName(append([]string{f.Name}, b.Leaf().DNSNames...)...)
		one.Proposal = proposal(one.Name, f, b)
	} else if one.Name = o.Configured[i].Name; !slices.Contains(o.Configured[i].Keys, b.KeyType()) {
		one.Notes = append(one.Notes, fmt.Sprintf("the key is %s: set keys: [%[1]s] to keep it", one.Key))
	}
	if f.Directory == "" {
		one.Notes = append(one.Notes, "the CA is unknown: name its directory URL with --directory, or the next pass orders a new certificate")
	}
	if time.Now().After(b.NotAfter()) {
		one.Notes = append(one.Notes, "it has expired; the next order uses its key")
	}
	accountURL, err := takeAccount(ctx, store, f, o.DryRun)
	if err != nil {
		return one, err
	}
	one.Account = accountURL
	if o.DryRun {
		return one, nil
	}
	one.Stored, err = storeForeign(ctx, store.Lineage(one.Name), f, b, o.Force, &one)
	return one, err
}

// storeForeign makes the certificate the current one of a lineage.
func storeForeign(ctx context.Context, lineage *state.Lineage, f Foreign, b *bundle.Bundle, force bool, one *Taken) (bool, error) {
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	record, _, err := lineage.Load()
	if err != nil {
		return false, err
	}
	if lineage.Compromised(b.SPKI()) {
		return false, errCompromised
	}
	slot := record.Slot(b.KeyType())
	if slot.Current != "" {
		if current, err := lineage.Bundle(slot.Current); err == nil && current.Same(b) {
			one.Notes = append(one.Notes, "mxcert has this certificate already")
			return false, nil
		}
		if !force {
			one.Notes = append(one.Notes, "mxcert has a certificate for these names already and keeps it; --force replaces it")
			return false, nil
		}
	}
	g, err := lineage.Add(b, b.Leaf().DNSNames, f.Directory, "", time.Now())
	if err != nil {
		return false, err
	}
	slot.Issued(g.ID, schedule.RenewalTime(b.Leaf().NotBefore, b.NotAfter(), b.Leaf().NotBefore))
	record.Log(state.Event{At: time.Now(), Event: "imported", Key: b.KeyType(), Serial: b.Serial(), Message: "from " + f.Source})
	return true, lineage.Save(record)
}

// takeAccount stores the account, unless mxcert already has one at that CA.
func takeAccount(ctx context.Context, store *state.Book, f Foreign, dryRun bool) (string, error) {
	if f.Directory == "" || f.Account.Key == nil {
		return "", nil
	}
	if !dryRun {
		unlock, err := store.Lock(ctx)
		if err != nil {
			return "", err
		}
		defer unlock()
	}
	own, ok, err := store.Account(f.Directory)
	if err == nil && ok {
		return own.URL, nil
	}
	key, err := bundle.ParseKey(f.Account.Key)
	if err != nil {
		return "", fmt.Errorf("the account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	if err != nil || dryRun {
		return f.Account.URL, err
	}
	return f.Account.URL, store.SaveAccount(state.Account{Directory: f.Directory, Email: f.Account.Email, URL: f.Account.URL, Key: string(text), Created: time.Now().UTC()})
}

// lineageName makes a name that the configuration accepts, from the first of the names that has a letter or digit it can use.
func lineageName(names ...string) string {
	for _, name := range names {
		name = strings.Map(nameRune, name)
		if name = strings.TrimLeft(name[:min(len(name), 64)], ".-_"); name != "" {
			return name
		}
	}
	return "imported"
}

// nameRune returns the character that stands for r in a name.
func nameRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
		return r
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	}
	return '-'
}

// proposal returns a section for conf.d.
func proposal(name string, f Foreign, b *bundle.Bundle) string {
	var y strings.Builder
	// The name is in quotes because YAML takes 2025 for a number.
	fmt.Fprintf(&y, "certificates:\n  - name: %q\n    domains: [%s]\n    keys: [%s]\n", name, strings.Join(quoted(b.Leaf().DNSNames), ", "), b.KeyType())
	if f.Provider != "" {
		fmt.Fprintf(&y, "    # dns: {provider: %s}   # what the other client used; `mxcert providers %[1]s` lists its variables\n", finding.Quote(f.Provider, finding.MostQuoted))
	}
	y.WriteString("    deploy: []   # say where it goes, as in `mxcert config example`\n    verify: {endpoints: []}\n")
	return y.String()
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = fmt.Sprintf("%q", n)
	}
	return list
}
