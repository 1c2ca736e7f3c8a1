package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Secret is a value that must not be shown: a reference ("cred:NAME", "file:PATH", "env:NAME") or the literal value.
// It prints as the reference, or as "(secret)".
type Secret string

const (
	hidden         = "(secret)"
	credentials    = "/etc/mxcert/credentials"
	credentialsEnv = "CREDENTIALS_DIRECTORY" // set by systemd (systemd.exec(5))
	serviceGroup   = "mxcert"

	// credentialAccess is the access of a credential that root keeps for the service.
	credentialAccess = "mode 0640, owner root, group " + serviceGroup
	maxSecret        = 64 << 10
)

// isReference reports whether s says where a secret is, instead of being one.
func isReference(s string) bool {
	kind, rest, found := strings.Cut(s, ":")
	return found && rest != "" && (kind == "cred" || kind == "file" || kind == "env")
}

// String hides a literal secret.
func (s Secret) String() string {
	if s == "" || isReference(string(s)) {
		return string(s)
	}
	return hidden
}

// GoString hides a literal secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText hides a literal secret from JSON and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Read returns the value without the newline at its end. An error names the reference and never the value.
//
// cred:NAME is $CREDENTIALS_DIRECTORY/NAME, else /etc/mxcert/credentials/NAME. Read refuses such a file if others
// can read it, or a group other than root's, the process's own or the service's. Supplementary groups do not
// count: mail servers are members of the group that reads keys. Read does not check the mode of file:PATH: the administrator
// decides about it.
func (s Secret) Read() (string, error) {
	value, err := s.read()
	switch {
	case err != nil && isReference(string(s)):
		return "", fmt.Errorf("secret %s: %w", s, err)
	case err != nil:
		return "", err
	case value == "" && isReference(string(s)):
		return "", fmt.Errorf("secret %s: it is empty", s)
	case value == "":
		return "", errors.New("the secret is empty; write cred:NAME and put the value into " + credentials + "/NAME")
	}
	return value, nil
}

func (s Secret) read() (string, error) {
	if !isReference(string(s)) {
		return string(s), nil
	}
	if err := checkReference(string(s)); err != nil {
		return "", err
	}
	kind, rest, _ := strings.Cut(string(s), ":")
	switch kind {
	case "env":
		value, ok := os.LookupEnv(rest)
		if !ok {
			return "", errors.New("the environment does not have this variable")
		}
		return value, nil
	case "file":
		return readSecret(rest, func(fs.FileInfo) error { return nil })
	}
	return readCredential(os.Getenv(credentialsEnv), credentials, rest)
}

// checkReference checks the form of a reference.
func checkReference(s string) error {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "cred" && (strings.ContainsAny(rest, "/\x00") || rest == "." || rest == ".."):
		return errors.New("cred: takes the name of a file, not a path; for a path write file:/PATH")
	case kind == "file" && (!filepath.IsAbs(rest) || strings.Contains(rest, "\x00")):
		return errors.New("file: takes an absolute path")
	case kind == "env" && (!onlyHas(rest, alnum+"_") || onlyHas(rest[:1], digit)):
		return errors.New("env: takes the name of an environment variable")
	}
	return nil
}

// readCredential reads the credential from systemd's directory if there is one, else from fallback.
func readCredential(dir, fallback, name string) (string, error) {
	first := "$" + credentialsEnv + " is not set"
	if dir != "" {
		first = "not in " + dir
		value, err := readSecret(filepath.Join(dir, name), private)
		if !errors.Is(err, fs.ErrNotExist) {
			return value, err
		}
	}
	value, err := readSecret(filepath.Join(fallback, name), private)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s, and not in %s: put the value there, %s: %w", first, fallback, credentialAccess, fs.ErrNotExist)
	}
	return value, err
}

// readSecret reads a small regular file that allowed accepts. It does not wait for the writer of a pipe.
func readSecret(name string, allowed func(fs.FileInfo) error) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file", name)
	case info.Size() > maxSecret:
		return "", fmt.Errorf("%s is larger than %d KiB", name, maxSecret>>10)
	}
	if err := allowed(info); err != nil {
		return "", fmt.Errorf("%s %v: %s", name, err, lock(info, name))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}

// private refuses a file that others can read.
func private(info fs.FileInfo) error {
	mode := info.Mode().Perm()
	switch {
	case mode&0o007 != 0:
		return fmt.Errorf("has mode %04o, so everybody has access to it", mode)
	case mode&0o070 != 0 && !trustedGroup(info):
		return fmt.Errorf("has mode %04o, so its group has access to it", mode)
	}
	return nil
}

// lock is the command that keeps others from a file, so that the service can still read it: what belongs to root it reads by its group.
func lock(info fs.FileInfo, name string) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if _, err := user.LookupGroup(serviceGroup); err == nil && ok && stat.Uid == 0 {
		return fmt.Sprintf("chown root:%[1]s %[2]s; chmod 0640 %[2]s", serviceGroup, name)
	}
	return "chmod 0600 " + name
}

// trustedGroup reports whether a file's group is root's (systemd shows its access list as this group's permission),
// the process's, or the service's, which matters when root runs a command.
func trustedGroup(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	gid := int(stat.Gid)
	if gid == 0 || gid == os.Getegid() {
		return true
	}
	g, err := user.LookupGroup(serviceGroup)
	return err == nil && g.Gid == strconv.Itoa(gid)
}

// checkSecret checks the form of a secret in the configuration, and warns of one that stands there itself. about is the
// variable that holds it, if it is one of a DNS provider.
func (l *loader) checkSecret(p string, s Secret, about variable) {
	kind, _, found := strings.Cut(string(s), ":")
	near := ""
	if found {
		near = nearest(kind, []string{"cred", "file", "env"})
	}
	switch {
	case s == "":
	case string(s) == hidden:
		l.bad(p, "write the value, or a reference such as cred:NAME", "this is what `mxcert config show` prints for a hidden value")
	case isReference(string(s)):
		if err := checkReference(string(s)); err != nil {
			l.bad(p, "", "%v", err)
		}
	case near != "":
		l.warnOf(about, p, "did you mean "+near+":…?", "mxcert uses the value as it is, although it looks like a reference")
	default:
		l.warnOf(about, p, "write cred:NAME and put the value into "+credentials+"/NAME, "+credentialAccess, "the secret stands in the configuration file, where everybody who can read the file sees it")
	}
}

// variable is one of a DNS provider. The zero value means none.
type variable struct{ provider, name string }

// secrets reports whether a variable holds a secret. The answers are kept, because a thousand certificates ask the same.
type secrets struct {
	ask   func(provider, variable string) bool // nil: each variable may hold one
	known map[variable]bool
}

func newSecrets(ask func(provider, variable string) bool) *secrets {
	return &secrets{ask: ask, known: map[variable]bool{}}
}

func (s *secrets) holds(v variable) bool {
	if _, known := s.known[v]; !known {
		s.known[v] = s.ask == nil || s.ask(v.provider, v.name)
	}
	return s.known[v]
}
