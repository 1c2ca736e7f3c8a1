// Package discover asks a mail server which certificate and key files it really reads, and compares them with the targets of a deployment.
// So mxcert finds out before a deployment if the server would not use the files.
//
// It asks Exim by `exim4 -bP`, Postfix by `postconf -x` and `postmap -q`, and Dovecot by `doveconf -f lname=NAME`, because only the servers'
// own programs know all includes, macros and defaults. If Exim expands a setting at each connection, discover expands it for a name by
// `exim4 -be`, as if the files of the deployment existed. If that is not possible, a note says so. The programs run with a clean environment
// and a time limit. The package treats their output as foreign text. If a server is not on this host, the error is [ErrAbsent].
//
// [Inspect] asks everything that matters before a deployment. [TryExim] makes handshakes with new files before any file of the server has
// changed. The package edits no configuration. Its errors say which line to change where; a change of Exim's configuration is first tried on
// a copy.
//
// Not supported: several instances of a server; and programs that are neither in PATH nor in the usual directories.
package discover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy"
)

// ErrAbsent says that the programs of the mail server are not on this host.
var ErrAbsent = errors.New("the programs of this mail server are not on this host")

// These are the mail servers that can be asked: the kinds of their targets.
const (
	kindExim    = "exim"
	kindPostfix = "postfix"
	kindDovecot = "dovecot"
)

// Server is what a mail server reads.
type Server struct {
	Kind   string                   // exim, postfix or dovecot
	User   string                   // the user who opens the files; "" for root
	Notes  []string                 // surprising facts, for a person
	reads  map[string][]deploy.Pair // by name that a client asks for
	untold map[string]string        // why it cannot be told what the server reads, by name that a client asks for
	maps   []string                 // SNI maps that the server uses
	advise func([]deploy.Target) string
	// further makes checks that only this kind of server needs; nil if there are none.
	further func([]deploy.Target) (notes []string, err error)
}

// Wanted is what a server has to do for a certificate.
type Wanted struct {
	Targets   []deploy.Target // files that it has to read
	Names     []string        // that clients ask for; the first is the one that senders use
	Endpoints []string        // as host:port, where it has to show the certificate
}

// Look asks the server of a kind which files it reads for clients that ask for each of the names, once the files of the targets exist. The
// error is ErrAbsent, or an *Error that contains a program's answer.
func Look(ctx context.Context, kind string, w Wanted) (*Server, error) {
	switch kind {
	case kindExim:
		return lookAtExim(ctx, w)
	case kindPostfix:
		return lookAtPostfix(ctx, w)
	case kindDovecot:
		return lookAtDovecot(ctx, w)
	}
	return nil, ErrAbsent
}

// Compare checks whether the server reads the files of targets of its kind, for clients that ask for one of the names. The first name is
// the one that senders use. The error is an *Error about the first name. Notes are about other names for which the server reads other
// files, and about symbolic links that the server follows.
func (s *Server) Compare(targets []deploy.Target, names []string) (notes []string, err error) {
	for _, t := range targets {
		if t.SNIMap != "" && !slices.Contains(s.maps, t.SNIMap) {
			return nil, s.mismatch(t.SNIMap, "", targets, mapPath(t.SNIMap))
		}
	}
	for i, name := range names {
		if why := s.untold[name]; why != "" && len(s.wants(targets)) > 0 {
			notes = append(notes, fmt.Sprintf("which files %s reads for the name %s cannot be told, the handshake will show it: %s", serverName(s.Kind), name, why))
			continue
		}
		for _, ways := range s.wants(targets) {
			linked, ok := s.readsPair(name, ways)
			switch {
			case ok && linked:
				notes = append(notes, fmt.Sprintf("%s reads %s through a symbolic link: it does not notice when the file changes", serverName(s.Kind), quote(ways[0].Certificate)))
			case ok:
			case i == 0:
				return notes, s.mismatch(pairText(ways[0]), name, targets, ways[0].Certificate, ways[0].Key)
			default:
				notes = append(notes, fmt.Sprintf("for the name %s, %s reads %s, not %s", name, serverName(s.Kind), s.text(name), pairText(ways[0])))
			}
		}
	}
	if s.further != nil {
		var more []string
		more, err = s.further(targets)
		notes = append(notes, more...)
	}
	slices.Sort(notes)
	return slices.Compact(notes), err
}

// wants lists what the server has to read. For each target it lists several ways; the server needs one of them. An SNI map names or holds
// the files itself. A Postfix without any certificate needs one for clients that ask for no name, too.
func (s *Server) wants(targets []deploy.Target) (list [][]deploy.Pair) {
	for _, t := range targets {
		if t.SNIMap == "" || s.Kind == kindPostfix && len(s.reads[""]) == 0 {
			list = append(list, t.Pairs(nil))
		}
	}
	return list
}

// readsPair reports whether the server reads one of the pairs for a name, and whether it does so only through a symbolic link.
func (s *Server) readsPair(name string, ways []deploy.Pair) (linked, ok bool) {
	for _, has := range s.reads[name] {
		for _, w := range ways {
			if clean(has) == clean(w) {
				return false, true
			}
			linked = linked || samePath(has.Certificate, w.Certificate) && samePath(has.Key, w.Key)
		}
	}
	return linked, linked
}

func clean(p deploy.Pair) deploy.Pair {
	return deploy.Pair{Certificate: filepath.Clean(p.Certificate), Key: filepath.Clean(p.Key)}
}

// samePath reports whether two paths lead to the same file. If one of the files does not exist yet, it compares the directories.
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

// text describes what the server reads for a name.
func (s *Server) text(name string) string {
	pairs := s.reads[name]
	if len(pairs) == 0 {
		return "no certificate of yours"
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, pairText(p))
	}
	return strings.Join(parts, ", ")
}

// pairText names the files of a pair. The text may come from a configuration.
func pairText(p deploy.Pair) string {
	if p.Certificate == p.Key {
		return quote(p.Certificate)
	}
	return quote(p.Certificate) + " and " + quote(p.Key)
}

// combined returns the pair of a file with both.
func combined(path string) deploy.Pair { return deploy.Pair{Certificate: path, Key: path} }

// mapPath returns the path of an SNI map without the type of Postfix's table.
func mapPath(sniMap string) string {
	if kind, path, typed := strings.Cut(sniMap, ":"); typed && !strings.Contains(kind, "/") {
		return path
	}
	return sniMap
}

func serverName(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// quote makes foreign text short and safe to show in a message.
func quote(text string) string { return finding.Quote(text, 200) }
