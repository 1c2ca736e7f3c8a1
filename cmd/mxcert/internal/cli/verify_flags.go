package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/configs"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// verifyFlags are the flags of verify, as they were typed. All of them are checked before the first question and the first connection.
type verifyFlags struct {
	hosts, domains, resolvers []string
	port, at, connections     string
	roots                     string
	kinds                     []string
	full, commands            bool
}

func (f *verifyFlags) define(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.domains, "domain", nil, "look at all that a sender of mail to this `DOMAIN` meets (may be repeated)")
	flags.StringArrayVar(&f.hosts, "host", nil, "look at all addresses of this `MX` host (may be repeated)")
	flags.StringVar(&f.port, "port", "25", "`PORT` of the hosts")
	flags.StringVar(&f.at, "at", "", "judge another `TIME`, for certificates and signatures of DNS: 2027-01-31, 2027-01-31T12:00:00Z, +30d or -2h")
	flags.StringSliceVar(&f.kinds, "for", nil, "only these `KINDS` of verdicts count for the exit code, and no finding: "+kindNames(","))
	flags.BoolVar(&f.full, "full", false, "make every kind of handshake at every address, also with hosts that are not yours")
	flags.StringVar(&f.connections, "connections", "4", "at most this `NUMBER` of connections to an address that is not yours")
	flags.StringArrayVar(&f.resolvers, "resolver", nil, "ask this resolver: `ADDRESS`, ADDRESS:PORT, or tls://NAME@ADDRESS (DNS over TLS); may be repeated")
	flags.StringVar(&f.roots, "roots", "", "trust the root certificates in this `FILE` (PEM) and no others")
	flags.BoolVar(&f.commands, "openssl", false, "also print commands of openssl, dig and curl that show the same")
}

// task checks the flags.
func (f *verifyFlags) task(names []string, changed func(flag string) bool, now time.Time) (verifyTask, error) {
	t := verifyTask{names: names, rootsFile: f.roots, commands: f.commands, options: survey.Options{Full: f.full, Turns: new(survey.Turns)}}
	named, others := len(f.hosts) > 0, len(f.hosts) > 0 || len(f.domains) > 0
	switch {
	case named && len(f.domains) > 0:
		return t, report.Usage("verify looks at hosts or at domains: use either --host or --domain")
	case others && len(names) > 0:
		return t, report.Usage("verify --host and --domain look at no configuration: leave out the names of certificates (%s)", strings.Join(names, " "))
	case !others && changed("port"):
		return t, report.Usage("--port needs --host or --domain; the endpoints of a certificate are those of verify.endpoints in the configuration")
	}
	for _, step := range []func(*verifyTask) error{f.setHosts, f.setNumbers, f.setKinds, f.setServers} {
		if err := step(&t); err != nil {
			return t, err
		}
	}
	if changed("roots") {
		if err := f.setRoots(&t); err != nil {
			return t, err
		}
	}
	var err error
	t.options.At, err = timeArgument(f.at, changed("at"), now)
	return t, err
}

func (f *verifyFlags) setHosts(t *verifyTask) error {
	for _, text := range f.domains {
		domain, err := mailDomain(text)
		if err != nil {
			return err
		}
		t.domains = appendNew(t.domains, domain)
	}
	for _, text := range f.hosts {
		host, err := hostArgument(text)
		if err != nil {
			return err
		}
		t.hosts = appendNew(t.hosts, host)
	}
	return nil
}

func appendNew(list []string, word string) []string {
	if slices.Contains(list, word) {
		return list
	}
	return append(list, word)
}

// mailDomain checks the domain of mail addresses.
func mailDomain(text string) (string, error) {
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return "", usageHint("verify --host "+address.String(), "--domain %s: this is an address, and mail goes to a domain, such as example.org", finding.Quoted(text, finding.MostQuoted))
	}
	if _, domain, found := strings.Cut(text, "@"); found {
		if name, err := dnsName(domain); err == nil {
			return "", usageHint("verify --domain "+name, "--domain %s: this is a mail address; write the domain alone", finding.Quoted(text, finding.MostQuoted))
		}
	}
	name, err := dnsName(text)
	if err != nil {
		return "", usageHint("verify --domain example.org", "--domain %s is not the name of a mail domain: %v", finding.Quoted(text, finding.MostQuoted), err)
	}
	return name, nil
}

// hostArgument checks the name or the address of a host.
func hostArgument(text string) (string, error) {
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return address.String(), nil
	}
	name, err := dnsName(text)
	if err != nil {
		return "", usageHint("verify --host mx.example.org --port 25", "--host %s is neither the name nor the address of a host: %v", finding.Quoted(text, finding.MostQuoted), err)
	}
	return name, nil
}

// dnsName checks a name of others: it may have underscores, which names in a certificate cannot have.
func dnsName(text string) (string, error) {
	if _, err := configs.DomainName(strings.ReplaceAll(text, "_", "x")); err != nil {
		return "", err
	}
	if strings.HasPrefix(text, "*.") {
		return "", errors.New("a wildcard stands for no single name")
	}
	if strings.Contains(text, "_") {
		return strings.ToLower(strings.TrimSuffix(text, ".")), nil
	}
	return configs.DomainName(text)
}

func (f *verifyFlags) setNumbers(t *verifyTask) error {
	port, err := strconv.Atoi(f.port)
	if err != nil || port < 1 || port > 65535 {
		return usageHint("verify --domain example.org --port 25", "--port is a number from 1 to 65535, not %s", word(f.port))
	}
	connections, err := strconv.Atoi(f.connections)
	if err != nil || connections < 1 || connections > mostConnections {
		return usageHint("", "--connections is a number from 1 to %d, not %s", mostConnections, word(f.connections))
	}
	t.options.Port, t.options.Connections = port, connections
	return nil
}

// mostConnections is more than a polite sender needs.
const mostConnections = 50

// word returns a word of the command line as a message shows it.
func word(text string) string {
	if isPlainLine(text) && text != "" {
		return text
	}
	return finding.Quoted(text, finding.MostQuoted)
}

func kindNames(separator string) string {
	names := make([]string, len(verdict.Kinds))
	for i, kind := range verdict.Kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, separator)
}

func (f *verifyFlags) setKinds(t *verifyTask) error {
	for _, text := range f.kinds {
		kind := verdict.Kind(strings.ReplaceAll(strings.TrimSpace(text), "-", "_"))
		if !slices.Contains(verdict.Kinds, kind) {
			return usageHint("verify --domain example.org --for dane,mta_sts", "--for: there is no kind of verdict %s; the kinds are %s", finding.Quoted(text, finding.MostQuoted), kindNames(", "))
		}
		t.kinds = append(t.kinds, kind)
	}
	return nil
}

func (f *verifyFlags) setServers(t *verifyTask) error {
	for _, text := range f.resolvers {
		server, err := resolve.ParseServer(text)
		if err != nil {
			return usageHint("", "--resolver %s is not the address of a resolver: %v; write ADDRESS, ADDRESS:PORT, [IPV6]:PORT or tls://NAME@ADDRESS",
				finding.Quoted(text, finding.MostQuoted), err)
		}
		t.servers = appendNew(t.servers, server)
	}
	return nil
}

func (f *verifyFlags) setRoots(t *verifyTask) error {
	if f.roots == "" {
		return usageHint("verify --domain example.org --roots /etc/ssl/private-ca.pem", "--roots: the name of the file is empty")
	}
	text, err := readRoots(f.roots)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("--roots: %w", err)
	case err != nil:
		return usageHint("", "--roots: %v", err)
	}
	t.options.Roots = x509.NewCertPool()
	t.serverRoots = systemRoots()
	t.serverRoots.AppendCertsFromPEM(text)
	if !t.options.Roots.AppendCertsFromPEM(text) {
		return usageHint("", "--roots: %s holds no PEM certificate; `openssl x509 -inform DER -in FILE` turns a binary one into PEM", word(f.roots))
	}
	return nil
}

// mostRoots is many times what the system's own file has.
const mostRoots = 16 << 20

// readRoots reads a file, or a pipe such as that of <(…). A pipe into which nobody writes is an error, and not a command that hangs.
func readRoots(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // the open of a pipe would wait, and no signal ends that
	if err != nil {
		return nil, err
	}
	defer file.Close()
	_ = file.SetReadDeadline(time.Now().Add(rootsTime)) // only a pipe has one
	text, err := io.ReadAll(io.LimitReader(file, mostRoots+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostRoots:
		return nil, fmt.Errorf("%s is larger than %d MiB", word(path), mostRoots>>20)
	}
	return text, nil
}

// rootsTime is how long a pipe may take.
const rootsTime = 10 * time.Second

// systemRoots returns a pool that may be added to.
func systemRoots() *x509.CertPool {
	if pool, err := x509.SystemCertPool(); err == nil {
		return pool
	}
	return x509.NewCertPool()
}

// span matches a time relative to now. Five digits of days are as much as a Duration holds.
var span = regexp.MustCompile(`^([+-][0-9]{1,5})([smhd])$`) //nolint:gochecknoglobals // a constant

// timeArgument reads the value of --at. The zero time stands for now.
func timeArgument(text string, given bool, now time.Time) (time.Time, error) {
	if !given {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.UTC().Year() > 1 && t.UTC().Year() < 10000 {
			return t.UTC(), nil
		}
	}
	if parts := span.FindStringSubmatch(text); parts != nil {
		n, _ := strconv.Atoi(parts[1]) // cannot fail: five digits
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[parts[2]]
		return now.Add(time.Duration(n) * unit).UTC(), nil
	}
	return time.Time{}, usageHint("verify --domain example.org --at +30d", "--at %s is not a time: write a date (2027-01-31), a time of RFC 3339 (2027-01-31T12:00:00Z), or a span from now (+30d, -2h)",
		finding.Quoted(text, finding.MostQuoted))
}

// usageHint returns a usage error that says what to type instead.
func usageHint(command, format string, values ...any) error {
	if command != "" {
		command = "for example: mxcert " + command
	}
	return &report.Exit{Code: report.CodeUsage, Err: &hinted{fmt.Sprintf(format, values...), command}}
}

// hinted is an error with what to do.
type hinted struct{ text, hint string }

func (e *hinted) Error() string { return e.text }

// Hint says what to do.
func (e *hinted) Hint() string { return e.hint }
