package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/configs"
	"mxcert/deploy/starttls"

	"mxcert/cmd/mxcert/internal/report"
)

// verifyTime bounds a look at endpoints: a greeting may take a minute.
const verifyTime = 2 * time.Minute

// verifyReport is `verify --json`. Its fields are part of the contract.
type verifyReport struct {
	OK    bool         `json:"ok"`
	Hosts []hostReport `json:"hosts"`
}

type hostReport struct {
	MX         string                   `json:"mx"`
	Address    string                   `json:"address"`
	Port       int                      `json:"port"`
	Handshakes []handshakeReport        `json:"handshakes"`
	Verdicts   map[string]verdictReport `json:"verdicts"`
	Findings   []starttls.Finding       `json:"findings"`
}

type handshakeReport struct {
	ServerName string  `json:"server_name"`
	Key        string  `json:"key"`
	Serial     string  `json:"serial"`
	NotAfter   string  `json:"not_after,omitempty"`
	TLS        string  `json:"tls,omitempty"`
	Cipher     string  `json:"cipher,omitempty"`
	Chain      int     `json:"chain_length"`
	Seconds    float64 `json:"seconds"`
	Matches    bool    `json:"matches"`
	Error      string  `json:"error,omitempty"`
}

type verdictReport struct {
	Result string `json:"result"` // pass, fail or n/a
	Reason string `json:"reason"`
}

func (a *app) verifyCommand() *cobra.Command {
	var host, domain string
	var port int
	var remote bool
	cmd := &cobra.Command{
		Use: "verify [NAME…]", Short: "Shake hands as a sender does, and judge what is served", Args: cobra.ArbitraryArgs,
		Long: `Makes STARTTLS handshakes at the endpoints of each certificate and judges the chain as sent. Exit code 3 when a fault is
found.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			switch {
			case domain != "" || remote:
				return usage("verify --domain and --remote are not supported by this version; verify --host looks at one host")
			case port < 1 || port > 65535:
				return usage("--port is a number from 1 to 65535, not %d", port)
			case host == "" && cmd.Flags().Changed("port"):
				return usage("--port belongs to --host; the endpoints of a certificate are verify.endpoints of the configuration")
			case host != "" && len(names) > 0:
				return usage("verify --host looks at a host, whatever the configuration: give it without names of certificates")
			case host != "":
				return a.verifyHost(cmd.Context(), host, port)
			}
			return a.verify(cmd.Context(), names)
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "look at this `MX` host instead, at all its addresses")
	cmd.Flags().StringVar(&domain, "domain", "", "look at all MX hosts of a mail `DOMAIN` (not in this version)")
	cmd.Flags().IntVar(&port, "port", 25, "`PORT` for --host")
	cmd.Flags().BoolVar(&remote, "remote", false, "look from outside (not in this version)")
	return cmd
}

// look is one endpoint to judge.
type look struct {
	mx, address string
	names       []string // that the certificate must cover
	keys        []starttls.KeyType
	labels      []string // of keys, for the report
	want        map[string]*bundle.Bundle
	roots       *x509.CertPool
}

func (a *app) verify(ctx context.Context, names []string) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	certificates, err := chosen(config, names)
	if err != nil {
		return err
	}
	roots, err := readRoots("acme.roots_file", config.ACME.RootsFile)
	if err != nil {
		return err
	}
	store, err := viewStore(config.State)
	if err != nil {
		return err
	}
	var looks []look
	for _, c := range certificates {
		local := localLooks(store, c, roots)
		if len(local) == 0 && !a.json && !a.quiet {
			fmt.Fprintf(a.stdout, "%s: no endpoint is configured, so that nothing was looked at\n", c.Name)
		}
		looks = append(looks, local...)
	}
	return a.judge(ctx, looks)
}

// localLooks are the endpoints of a certificate, with what they should show.
func localLooks(store *state.Book, c configs.Certificate, roots *x509.CertPool) []look {
	p := &pass{world: &world{store: store}, certificate: c, lineage: store.Lineage(c.Name), say: func(string, string) {}}
	if record, _, err := p.lineage.Look(); err == nil {
		p.record = record
	}
	p.bundles = make([]*bundle.Bundle, len(c.Keys))
	_ = p.readBundles() // one that cannot be read has nothing to compare with, and that is found below
	want := map[string]*bundle.Bundle{}
	l := look{mx: serverName(c.Domains), names: exactNames(c.Domains), want: want, roots: roots}
	for i, key := range p.keys() {
		ask := starttls.Any
		if len(c.Keys) > 1 {
			ask = askFor(key)
		}
		l.keys, l.labels = append(l.keys, ask), append(l.labels, string(key))
		want[string(key)] = p.bundles[i]
	}
	var looks []look
	for _, address := range p.endpoints() {
		each := l
		each.address = address
		looks = append(looks, each)
	}
	return looks
}

func (a *app) verifyHost(ctx context.Context, host string, port int) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	var looks []look
	for _, address := range addresses {
		looks = append(looks, look{mx: host, address: net.JoinHostPort(address, strconv.Itoa(port)), names: []string{host},
			keys: []starttls.KeyType{starttls.Any}, labels: []string{"any"}})
	}
	return a.judge(ctx, looks)
}

// judge looks at all endpoints at once and reports.
func (a *app) judge(ctx context.Context, looks []look) error {
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	r := verifyReport{OK: true, Hosts: make([]hostReport, len(looks))}
	var wait sync.WaitGroup
	for i, l := range looks {
		wait.Go(func() { r.Hosts[i] = l.judge(ctx) })
	}
	wait.Wait()
	for _, h := range r.Hosts {
		for _, f := range h.Findings {
			r.OK = r.OK && f.Severity != starttls.SeverityError
		}
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if !a.quiet || !r.OK {
		a.printVerify(r)
	}
	if !r.OK {
		return &report.Exit{Code: report.CodeFault}
	}
	return nil
}

func (l look) judge(ctx context.Context) hostReport {
	host, port, _ := net.SplitHostPort(l.address)
	number, _ := strconv.Atoi(port) // configs has checked it
	h := hostReport{MX: l.mx, Address: host, Port: number, Handshakes: []handshakeReport{}, Findings: []starttls.Finding{}}
	reached, trusted := true, true
	var reason, distrust string
	for i, ask := range l.keys {
		shake, result, err := l.shake(ctx, ask, l.labels[i])
		h.Handshakes = append(h.Handshakes, shake)
		if err != nil {
			reached, reason = false, err.Error()
			h.Findings = append(h.Findings, starttls.Finding{ID: report.KindOf(err), Severity: starttls.SeverityError, Message: err.Error(), Hint: report.HintOf(err)})
			continue
		}
		h.Findings = append(h.Findings, result.Findings...)
		for _, f := range starttls.CheckChain(result.Chain, l.names, l.roots, time.Now()) {
			h.Findings = append(h.Findings, f)
			if f.Severity == starttls.SeverityError || f.ID == "certificate-not-trusted" {
				trusted, distrust = false, f.Message
			}
		}
		if l.want != nil && !shake.Matches {
			h.Findings = append(h.Findings, notCurrent(l.want[l.labels[i]], shake.Serial))
		}
	}
	h.Verdicts = verdicts(reached, reason, trusted, distrust)
	return h
}

func (l look) shake(ctx context.Context, ask starttls.KeyType, label string) (handshakeReport, *starttls.Result, error) {
	shake := handshakeReport{ServerName: l.mx, Key: label}
	result, err := starttls.Handshake(ctx, starttls.Request{Address: l.address, ServerName: l.mx, KeyType: ask})
	if err != nil {
		shake.Error = err.Error()
		return shake, nil, err
	}
	shake.Serial, shake.Chain, shake.Seconds = bundle.SerialOf(result.Chain[0]), len(result.Chain), result.Elapsed.Seconds()
	shake.NotAfter = result.Chain[0].NotAfter.UTC().Format(time.RFC3339)
	shake.TLS, shake.Cipher = tls.VersionName(result.Version), tls.CipherSuiteName(result.Cipher)
	if want := l.want[label]; want != nil {
		shake.Matches = starttls.Match(result.Chain, want.Leaf())
	}
	return shake, result, nil
}

func notCurrent(want *bundle.Bundle, serial string) starttls.Finding {
	f := starttls.Finding{ID: "not-current", Severity: starttls.SeverityError, Hint: "run: mxcert renew",
		Message: fmt.Sprintf("the certificate that is served (serial %s) was not issued through mxcert", serial)}
	if want != nil {
		f.Message = fmt.Sprintf("serial %s is served, but serial %s is current", serial, want.Serial())
	}
	return f
}

// verdicts says what each kind of sender would decide. Without a look at DNS, nothing can be said about DANE and
// MTA-STS, and it is not guessed.
func verdicts(reached bool, reason string, trusted bool, distrust string) map[string]verdictReport {
	unknown := verdictReport{Result: "n/a", Reason: "not looked up by this version"}
	v := map[string]verdictReport{"dane": unknown, "mta_sts": unknown, "requiretls": unknown,
		"opportunistic": {Result: "pass", Reason: "the handshake succeeds"}, "pkix": {Result: "pass", Reason: "the chain as sent is trusted and covers the name"}}
	if !reached {
		v["opportunistic"] = verdictReport{Result: "fail", Reason: reason}
		v["pkix"] = v["opportunistic"]
	} else if !trusted {
		v["pkix"] = verdictReport{Result: "fail", Reason: distrust}
	}
	return v
}

// askFor chooses the probe of a key type.
func askFor(key bundle.KeyType) starttls.KeyType {
	if key.ECDSA() {
		return starttls.ECDSA
	}
	return starttls.RSA
}

// exactNames leaves out wildcards, which are no names that a sender could connect to.
func exactNames(domains []string) []string {
	var names []string
	for _, d := range domains {
		if d[0] != '*' {
			names = append(names, d)
		}
	}
	return names
}

func (a *app) printVerify(r verifyReport) {
	if len(r.Hosts) == 0 {
		fmt.Fprintln(a.stdout, "no endpoint is configured: that the files hold the certificate is the last that is known (mxcert status)")
	}
	for _, h := range r.Hosts {
		fmt.Fprintf(a.stdout, "%s at %s\n", h.MX, net.JoinHostPort(h.Address, strconv.Itoa(h.Port)))
		for _, s := range h.Handshakes {
			if s.Error != "" {
				fmt.Fprintf(a.stdout, "  handshake    %s: failed\n", s.Key)
				continue
			}
			fmt.Fprintf(a.stdout, "  handshake    %s: %s %s, %d certificates sent, serial %s, valid until %s (%.0f ms)\n",
				s.Key, s.TLS, s.Cipher, s.Chain, s.Serial, s.NotAfter, s.Seconds*1000)
		}
		for _, name := range []string{"opportunistic", "pkix", "dane", "mta_sts", "requiretls"} {
			fmt.Fprintf(a.stdout, "  %-12s %s: %s\n", name, h.Verdicts[name].Result, h.Verdicts[name].Reason)
		}
		for _, f := range h.Findings {
			fmt.Fprintf(a.stdout, "  %-12s %s: %s\n", f.Severity, f.ID, f.Message)
			if f.Hint != "" {
				fmt.Fprintf(a.stdout, "  next step    %s\n", f.Hint)
			}
		}
	}
}
