// Package discover asks a mail server which certificate and key files it really reads, and compares them with those that
// are to be written.
//
// Exim is asked by `exim4 -bP`, Postfix by `postconf -x`, Dovecot by `doveconf -f lname=NAME`: their own programs know
// about includes, macros and defaults. What Exim expands at each connection is expanded for a name by `exim4 -be`. The
// programs run without a shell, with an environment of their own and a time limit; the text that they print is taken
// for foreign. A server that is not on this host has nothing to compare with: [ErrAbsent].
//
// Sound asks whether the configuration as a whole is in order, Exim.Try shakes hands with candidate files before any file
// of the server has changed.
//
// Not supported: several instances of a server, settings that only one service of Postfix's master.cf overrides (they are
// told by Notes), and programs at places that neither PATH nor the usual directories name.
package discover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// ErrAbsent says that the programs of the mail server are not on this host.
var ErrAbsent = errors.New("the programs of this mail server are not on this host")

// Pair is a certificate and its key as a server opens them; the same path twice for a combined file.
type Pair struct {
	Certificate, Key string
}

// Combined is the pair of a file with both.
func Combined(path string) Pair { return Pair{path, path} }

// Place is what is to be written for a server.
type Place struct {
	Names     []string // of the certificate; the first is the one that senders use
	Pairs     []Pair   // one for each type of key
	Directory []string // links to generation directories, one for each type of key
	SNIMap    string   // as the server names it
}

// Server is what a mail server reads.
type Server struct {
	Kind          string            // exim, postfix or dovecot
	User          string            // as whom it opens the files; "" for root
	PerConnection bool              // it opens them at each connection
	Notes         []string          // what may surprise, for a person
	reads         map[string][]Pair // by name that a client asks for
	maps          []string          // SNI maps that it consults
	advise        func(Place) string
}

// Look asks the server of a kind what it reads for clients that ask for each of the names. The error is ErrAbsent, or an
// *Error that says what a program answered.
func Look(ctx context.Context, kind string, names []string) (*Server, error) {
	switch kind {
	case "exim":
		return lookAtExim(ctx, names)
	case "postfix":
		return lookAtPostfix(ctx, names)
	case "dovecot":
		return lookAtDovecot(ctx, names)
	}
	return nil, ErrAbsent
}

// Compare looks whether the server reads what is to be written. The error is a *Mismatch for the first name of the place.
// notes tell of other names that lead elsewhere, and of symbolic links that the server reads through.
func (s *Server) Compare(place Place) (notes []string, err error) {
	if place.SNIMap != "" {
		if !slices.Contains(s.maps, place.SNIMap) {
			return nil, &Mismatch{Server: s.Kind, Wants: place.SNIMap, Reads: s.text(""), advice: s.advise(place)}
		}
		if s.Kind == "exim" {
			return nil, nil // the map names the files
		}
	}
	for i, name := range place.Names {
		for _, want := range place.wants() {
			linked, ok := s.readsPair(name, want)
			switch {
			case ok && linked:
				notes = append(notes, fmt.Sprintf("%s reads %s through a symbolic link: it does not notice when the file changes", serverName(s.Kind), want[0].Certificate))
			case ok:
			case i == 0:
				return notes, &Mismatch{Server: s.Kind, Name: name, Wants: want[0].String(), Reads: s.text(name), advice: s.advise(place)}
			default:
				notes = append(notes, fmt.Sprintf("for the name %s, %s reads %s, not %s", name, serverName(s.Kind), s.text(name), want[0]))
			}
		}
	}
	slices.Sort(notes)
	return slices.Compact(notes), nil
}

// wants lists what has to be read: each is a list of pairs of which one will do.
func (p Place) wants() (list [][]Pair) {
	if p.SNIMap == "" || len(p.Pairs) > 0 {
		for _, pair := range p.Pairs {
			list = append(list, []Pair{pair})
		}
	}
	for _, dir := range p.Directory {
		list = append(list, []Pair{{filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")}, Combined(filepath.Join(dir, "combined.pem"))})
	}
	return list
}

// readsPair reports whether the server reads one of the pairs for a name, and whether only through a link.
func (s *Server) readsPair(name string, want []Pair) (linked, ok bool) {
	for _, has := range s.reads[name] {
		for _, w := range want {
			if clean(has) == clean(w) {
				return false, true
			}
			linked = linked || samePath(has.Certificate, w.Certificate) && samePath(has.Key, w.Key)
		}
	}
	return linked, linked
}

func clean(p Pair) Pair { return Pair{filepath.Clean(p.Certificate), filepath.Clean(p.Key)} }

// samePath compares where two paths lead; their directories, where one of the files does not exist yet.
func samePath(a, b string) bool {
	return resolved(a) == resolved(b)
}

func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

// text says what the server reads for a name.
func (s *Server) text(name string) string {
	pairs := s.reads[name]
	if len(pairs) == 0 {
		return "no certificate of yours"
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}

// String names the files; the text comes from a configuration and is capped.
func (p Pair) String() string {
	if p.Certificate == p.Key {
		return printable(p.Certificate)
	}
	return printable(p.Certificate) + " and " + printable(p.Key)
}

// Mismatch says that a server reads other files than those that are to be written.
type Mismatch struct {
	Server string // exim, postfix or dovecot
	Name   string // that a client asks for; "" for a map
	Wants  string // what is to be written
	Reads  string // what it reads
	advice string
}

// Error says who reads what.
func (e *Mismatch) Error() string {
	return fmt.Sprintf("%s does not read %s: it reads %s", serverName(e.Server), e.Wants, e.Reads)
}

// Kind is not-read.
func (e *Mismatch) Kind() string { return "not-read" }

// Hint says which line to add where.
func (e *Mismatch) Hint() string {
	return e.advice + "; or write `unchecked: true` into the target"
}

func serverName(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// printable makes foreign text harmless in a message, and short.
func printable(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "…"
	}
	quoted := fmt.Sprintf("%q", text)
	if quoted[1:len(quoted)-1] == text {
		return text
	}
	return quoted
}
