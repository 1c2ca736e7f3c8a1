package adopt

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/state"
)

// Configured is a certificate that the configuration names.
type Configured struct {
	Name     string
	Names    []string // DNS names
	Optional []string // those of Names that a certificate may lack
	Keys     []bundle.KeyType
}

// Options say how to take over.
type Options struct {
	Configured  []Configured
	Directories []string       // URLs of the CAs that the configuration names; if empty, any CA will do
	Roots       *x509.CertPool // acme.roots_file; nil if it is not set
	DryRun      bool           // change nothing
	Force       bool           // even if mxcert has a valid certificate for the same names

	InService map[string]string // what [KeysInService] has found: SPKI hashes of keys that mail servers use now, and the file of each

	Knows func(provider string) bool // whether this mxcert has a DNS provider; nil if it has all
	Exim  Installed                  // the plain paths that the Exim of this host reads; "" if there are none
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
	Chosen   bool      `json:"chosen"` // it is stored, or would be without --dry-run
	Notes    []string  `json:"notes"`
	Proposal string    `json:"proposal"` // for the configuration; "" if it names the certificate already
	Error    string    `json:"error,omitempty"`
	Hint     string    `json:"hint,omitempty"` // what to do about the error
	Err      error     `json:"-"`
}

// taking is one import.
type taking struct {
	Options
	store  *state.Book
	naming naming
	now    time.Time
	found  []*candidate // nil for what cannot be taken over
	taken  []Taken
}

// Take stores certificates. Each one's name is the one that the configuration uses for its DNS names, otherwise a new one. Of several with
// the same names and the same type of key it stores one: a valid one, before one that expired, and of those the one whose key is in service,
// or else the one that is valid for longest. It returns the result for each certificate, in their order, with its error.
func Take(ctx context.Context, store *state.Book, found []Foreign, o Options) []Taken {
	if o.Knows == nil {
		o.Knows = func(string) bool { return true }
	}
	t := &taking{Options: o, store: store, naming: naming{store: store, configured: o.Configured}, now: time.Now(),
		found: make([]*candidate, len(found)), taken: make([]Taken, len(found))}
	for i, f := range found {
		t.look(i, f)
	}
	for i := range found {
		if t.found[i] != nil && t.best(i) == i {
			t.take(ctx, i)
		}
	}
	return t.taken
}

// look checks a certificate and gives it a name.
func (t *taking) look(i int, f Foreign) {
	one := &t.taken[i]
	*one = Taken{From: f.Source, Names: []string{}}
	f.Directory = t.directoryOf(f)
	c, err := examine(f, t.Roots, t.now)
	if err == nil && c.isRehearsal(t.Directories) {
		err = c.keepKey("it is from a staging service, which no sender trusts")
	}
	if err == nil {
		b := c.bundle
		c.inService = t.InService[b.SPKI()]
		one.Names, one.Key, one.Serial, one.NotAfter = c.names(), string(b.KeyType()), b.Serial(), b.NotAfter().UTC()
		one.Name = t.naming.of(one.Names, append([]string{f.Name}, one.Names...)...)
		f = c.Foreign
		if t.store.Lineage(one.Name).Compromised(b.SPKI()) {
			err = f.fault(errCompromised, "", "%v", errCompromised)
		}
	}
	one.Notes = append(append([]string{}, f.Notes...), f.Hooks...)
	if err != nil {
		one.fail(err)
		return
	}
	if revoked(t.store.Lineage(one.Name), one.Serial) {
		one.note("mxcert has revoked this certificate")
		return
	}
	t.found[i] = c
}

// directoryOf returns the directory of the CA of a certificate. If only its host is known, it is the one of the configuration at that host.
func (t *taking) directoryOf(f Foreign) string {
	if f.Directory != "" || f.Host == "" {
		return f.Directory
	}
	there := slices.DeleteFunc(slices.Clone(t.Directories), func(directory string) bool { return authority.Name(directory) != f.Host })
	if len(there) != 1 {
		return ""
	}
	return there[0]
}

func (one *Taken) fail(err error) {
	one.Err, one.Error = err, err.Error()
	if f, ok := err.(interface{ Hint() string }); ok {
		one.Hint = f.Hint()
	}
}

func (one *Taken) note(format string, values ...any) {
	one.Notes = append(one.Notes, fmt.Sprintf(format, values...))
}

// best returns which of the certificates that want the place of the i-th one gets it.
func (t *taking) best(i int) int {
	best := i
	for j, c := range t.found {
		if c == nil || t.taken[j].Name != t.taken[i].Name || t.taken[j].Key != t.taken[i].Key {
			continue
		}
		if order := c.compare(t.found[best]); order < 0 || order == 0 && j < best {
			best = j
		}
	}
	return best
}

// take takes over the i-th certificate, and leaves out the others that want its place.
func (t *taking) take(ctx context.Context, i int) {
	c, one := t.found[i], &t.taken[i]
	for j, other := range t.found {
		if other != nil && j != i && t.taken[j].Name == one.Name && t.taken[j].Key == one.Key {
			one.note("left out, for the same names: %s (serial %s, %s)", other.Source, other.bundle.Serial(), other.state())
			t.taken[j].note("left out: %s is for the same names and %s", c.Source, c.state())
		}
	}
	t.advise(i)
	account, err := t.account(ctx, c)
	if err != nil {
		one.note("%s", withoutAccount(err))
	}
	one.Account = account
	lineage := t.store.Lineage(one.Name)
	if t.DryRun {
		record, _, err := lineage.Look()
		if err != nil {
			one.fail(err)
			return
		}
		one.Chosen = t.mayReplace(c, lineage, &record, one)
		return
	}
	if one.Stored, err = t.put(ctx, c, lineage, one); err != nil {
		one.fail(err)
	}
	one.Chosen = one.Stored
}

// state says how good a certificate is.
func (c *candidate) state() string {
	text := life(c.bundle, c.now)
	if c.keyOnly != "" {
		text += ", without its issuer"
	}
	if c.inService != "" {
		text += ", its key is in service: " + c.inService
	}
	return text
}

// advise adds what the operator has to do.
func (t *taking) advise(i int) {
	c, one := t.found[i], &t.taken[i]
	at := slices.IndexFunc(t.Configured, func(own Configured) bool { return own.Name == one.Name })
	switch {
	case at < 0:
		t.propose(i)
	case !slices.Contains(t.Configured[at].Keys, c.bundle.KeyType()):
		one.note("the key is %s: set keys: [%s] to keep it", one.Key, strings.Join(text(t.keys(one.Name)), ", "))
	}
	switch {
	case c.keyOnly != "":
		one.note("%s; mxcert does not put it in service: the next pass orders a certificate with its key", c.keyOnly)
	case c.expired():
		one.note("it has expired; the next order uses its key")
	case t.Roots != nil && !c.trusted:
		one.note("it does not lead to a root in acme.roots_file; the next pass orders a certificate with its key")
	}
	switch {
	case c.Directory != "" && len(t.Directories) > 0 && !slices.Contains(t.Directories, c.Directory):
		one.note("it comes from %s, which acme.directory does not name: the next pass orders a certificate with its key", finding.Quote(c.Directory, finding.MostQuoted))
	case c.Directory == "":
		one.note("the CA is unknown: name its directory URL with --directory, or the next pass orders a new certificate")
	}
}

// propose adds a section for the configuration. Certificates of the same names with another type of key share one.
func (t *taking) propose(i int) {
	c, one := t.found[i], &t.taken[i]
	if own, ok := t.naming.related(one.Names); ok {
		one.note("the configuration has %s for %s: it keeps this key only if its domains are exactly %s", own.Name, strings.Join(own.Names, ", "), finding.Quote(strings.Join(one.Names, ", "), finding.MostQuoted))
	}
	for j := range i {
		if t.taken[j].Name == one.Name && t.taken[j].Proposal != "" {
			one.note("the proposal is that of %s", t.taken[j].From)
			return
		}
	}
	one.Proposal = t.proposal(one.Name, c.Foreign, one.Names, t.keys(one.Name))
}

// keys returns the types of key to keep for a name, at most one of each algorithm: that of the certificate that is valid for longest.
func (t *taking) keys(name string) []bundle.KeyType {
	var keys []bundle.KeyType
	for _, ecdsa := range []bool{true, false} {
		var best *candidate
		for j, c := range t.found {
			if c != nil && t.taken[j].Name == name && c.bundle.KeyType().ECDSA() == ecdsa && (best == nil || c.compare(best) < 0) {
				best = c
			}
		}
		if best != nil {
			keys = append(keys, best.bundle.KeyType())
		}
	}
	return keys
}

// account stores the account, unless mxcert already has one at that CA, and returns the URL of mxcert's.
func (t *taking) account(ctx context.Context, c *candidate) (string, error) {
	f := c.Foreign
	if f.Directory == "" || f.Account.Key == nil {
		return "", nil
	}
	if !t.DryRun {
		unlock, err := t.store.Lock(ctx)
		if err != nil {
			return "", err
		}
		defer unlock()
	}
	own, ok, err := t.store.Account(f.Directory)
	if err == nil && ok {
		return own.URL, nil
	}
	key, err := bundle.ParseKey(f.Account.Key)
	if err != nil {
		return "", fmt.Errorf("the account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	if err != nil || t.DryRun {
		return f.Account.URL, err
	}
	return f.Account.URL, t.store.SaveAccount(state.Account{Directory: f.Directory, Email: f.Account.Email, URL: f.Account.URL, Key: string(text), Created: time.Now().UTC()})
}

// sameNames reports whether a stored certificate is for the same names.
func sameNames(lineage *state.Lineage, id string, names []string) bool {
	g, err := lineage.Generation(id)
	return err == nil && issued.SameNames(g.Names, names)
}
