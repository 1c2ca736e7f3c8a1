package discover

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mxcert/deploy"
)

// expansion is how Exim expands a setting for one client: the name that it asks for, on loopback, once the planned files exist.
type expansion struct {
	program string
	name    string
	planned []string // paths that a deployment will write
	at      string   // address and port of this host that the client connects to, as Exim writes them; "" for 127.0.0.1.25
}

// errUntold says that Exim cannot tell, outside a connection, what a setting expands to.
type errUntold struct{ why string }

func (e errUntold) Error() string { return e.why }

// pairs returns the certificates and keys that the two settings expand to. The error is that of list.
func (x expansion) pairs(ctx context.Context, certificate, key string) ([]deploy.Pair, error) {
	certificates, err := x.list(ctx, certificate)
	if err != nil {
		return nil, err
	}
	keys, err := x.list(ctx, key)
	if err != nil {
		return nil, err
	}
	return pairUp(certificates, keys), nil
}

// list returns the list that a setting expands to. The error is an *Error if the program failed, or an errUntold.
func (x expansion) list(ctx context.Context, setting string) ([]string, error) {
	if !strings.Contains(setting, "$") {
		return eximList(setting), nil
	}
	if m := onlyInConnection.FindString(setting); m != "" {
		return nil, errUntold{fmt.Sprintf("it depends on %s of each connection", m)}
	}
	setting, err := x.asIfThere(ctx, x.named(setting))
	if err != nil {
		return nil, err
	}
	view, err := x.directories(setting)
	if err != nil {
		return nil, err
	}
	defer view.remove()
	out, err := x.expand(ctx, view.in(setting))
	if err != nil {
		return nil, err
	}
	return eximList(view.out(out)), nil
}

// expand expands a text by exim -be. The address and port are those of the connections that a host makes to itself.
func (x expansion) expand(ctx context.Context, text string) (string, error) {
	out, stderr, err := run(ctx, "", x.program, "-oMi", cmp.Or(x.at, "127.0.0.1.25"), "-be", text)
	if err != nil {
		return "", err
	}
	out = strings.TrimSpace(out)
	if why, failed := strings.CutPrefix(out, "Failed:"); failed {
		return "", errUntold{"Exim says: " + quote(strings.TrimSpace(why))}
	}
	if out == "" && strings.TrimSpace(stderr) != "" {
		return "", errUntold{"Exim says: " + quote(firstLine(stderr))}
	}
	return out, nil
}

//nolint:gochecknoglobals // constants
var (
	// sniVariable matches the variable in which Exim puts the name that a client asks for. The second name is an old one.
	sniVariable = regexp.MustCompile(`\$(?:\{(?:tls_in_sni|tls_sni)\}|(?:tls_in_sni|tls_sni)\b)`)
	// sniDefined matches the condition that the client asks for a name.
	sniDefined = regexp.MustCompile(`\bdef:(?:tls_in_sni|tls_sni)\b`)
	// onlyInConnection matches variables that have no value outside a connection, or another one.
	onlyInConnection = regexp.MustCompile(`\$\{?(?:sender_(?:host|helo|rcvhost)_?\w*|tls_in_(?:cipher|bits|ver|peerdn|certificate_verified)\w*|acl_[cm]\w*)`)
	// ofEndpoint matches variables that differ between the addresses and ports that a client may connect to.
	ofEndpoint = regexp.MustCompile(`\$\{?(?:received|interface)_(?:port|ip_address|address)\b`)
	// existsCondition matches the beginning of a condition about a file.
	existsCondition = regexp.MustCompile(`\bexists\s*\{`)
	// dsearchIn matches a look into a directory.
	dsearchIn = regexp.MustCompile(`\bdsearch[\w,=]*\s*\{\s*(/[^{}$\s]+?)/?\s*\}`)
)

// named puts a name in the place of the variable. A client that asks for no name has an empty one.
func (x expansion) named(setting string) string {
	defined := "eq{0}{1}"
	if x.name != "" {
		defined = "eq{1}{1}"
	}
	return sniDefined.ReplaceAllLiteralString(sniVariable.ReplaceAllLiteralString(setting, x.name), defined)
}

// asIfThere makes each condition about a planned file true.
func (x expansion) asIfThere(ctx context.Context, setting string) (string, error) {
	var done strings.Builder
	for {
		at := existsCondition.FindStringIndex(setting)
		if at == nil {
			done.WriteString(setting)
			return done.String(), nil
		}
		end := closing(setting, at[1])
		if end < 0 {
			done.WriteString(setting)
			return done.String(), nil // Exim says what is wrong with it
		}
		path, err := x.expand(ctx, setting[at[1]:end])
		if _, untold := err.(errUntold); err != nil && !untold { //nolint:errorlint // expand wraps nothing
			return "", err
		}
		if err == nil && slices.Contains(x.planned, filepath.Clean(path)) {
			done.WriteString(setting[:at[0]] + "eq{1}{1}")
		} else {
			done.WriteString(setting[:end+1])
		}
		setting = setting[end+1:]
	}
}

// closing returns where the brace is closed that was opened before from; -1 if it is not.
func closing(text string, from int) int {
	for i, depth := from, 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// directoryView replaces directories that a setting looks into by others, which have the planned files, too.
type directoryView struct{ real, shown []string }

// directories makes a view of each directory of a dsearch that a deployment writes to.
func (x expansion) directories(setting string) (v directoryView, err error) {
	for _, m := range dsearchIn.FindAllStringSubmatch(setting, -1) {
		missing := map[string]bool{}
		for _, path := range x.planned {
			below, err := filepath.Rel(m[1], path)
			name, _, isDirectory := strings.Cut(below, "/")
			if _, statErr := os.Lstat(filepath.Join(m[1], name)); err == nil && statErr != nil && name != ".." {
				missing[name] = isDirectory
			}
		}
		if len(missing) > 0 && !slices.Contains(v.real, m[1]) {
			if err := v.add(m[1], missing); err != nil {
				v.remove()
				return v, err
			}
		}
	}
	return v, nil
}

// add makes a view of a directory with further entries: files, and directories where the value is true.
func (v *directoryView) add(directory string, entries map[string]bool) error {
	shown, err := os.MkdirTemp("", "mxcert-view-")
	if err != nil {
		return err
	}
	v.real, v.shown = append(v.real, directory), append(v.shown, shown)
	there, err := os.ReadDir(directory)
	if err != nil {
		return nil //nolint:nilerr // Exim says what is wrong with it
	}
	for _, e := range there {
		info, err := os.Stat(filepath.Join(directory, e.Name())) // dsearch follows links
		entries[e.Name()] = err == nil && info.IsDir()
	}
	for name, isDirectory := range entries {
		path := filepath.Join(shown, name)
		if isDirectory {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v directoryView) in(text string) string {
	return dsearchIn.ReplaceAllStringFunc(text, func(match string) string {
		for i, directory := range v.real {
			match = strings.Replace(match, "{"+directory, "{"+v.shown[i], 1)
		}
		return match
	})
}

func (v directoryView) out(text string) string {
	for i, shown := range v.shown {
		text = strings.ReplaceAll(text, shown, v.real[i])
	}
	return text
}

func (v directoryView) remove() {
	for _, shown := range v.shown {
		_ = os.RemoveAll(shown)
	}
}

// plannedPaths lists what a deployment of the targets writes, in every way in which a server may name it.
func plannedPaths(targets []deploy.Target) (paths []string) {
	for _, t := range targets {
		for _, pair := range t.Pairs(nil) {
			paths = append(paths, filepath.Clean(pair.Certificate), filepath.Clean(pair.Key))
		}
		if t.SNIMap != "" {
			paths = append(paths, filepath.Clean(t.SNIMap))
		}
	}
	return paths
}
