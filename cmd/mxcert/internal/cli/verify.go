package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/deploy/served"
	"mxcert/deploy/starttls"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// verifyTime limits a look at endpoints; a mail server may take a minute to greet.
const verifyTime = 2 * time.Minute

// verifyReport is the document of `verify --json`. Scripts depend on its fields.
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
	Findings   []finding.Finding        `json:"findings"`
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
		Long: `Makes STARTTLS handshakes with the endpoints of each certificate and judges the chain as sent. Exit code 3 if it finds a
fault.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			switch {
			case domain != "" || remote:
				return report.Usage("verify --domain and --remote are not supported by this version; verify --host looks at one host")
			case port < 1 || port > 65535:
				return report.Usage("--port is a number from 1 to 65535, not %d", port)
			case host == "" && cmd.Flags().Changed("port"):
				return report.Usage("--port needs --host; the endpoints of a certificate are those of verify.endpoints in the configuration")
			case host != "" && len(names) > 0:
				return report.Usage("verify --host looks at a host and not at the configuration: call it without names of certificates")
			case host != "":
				return a.verifyHost(cmd.Context(), host, port)
			}
			return a.verify(cmd.Context(), names)
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "look at all addresses of this `MX` host instead")
	cmd.Flags().StringVar(&domain, "domain", "", "look at all MX hosts of a mail `DOMAIN` (not in this version)")
	_ = cmd.Flags().MarkHidden("domain") // cannot fail: the flag exists
	cmd.Flags().IntVar(&port, "port", 25, "`PORT` for --host")
	cmd.Flags().BoolVar(&remote, "remote", false, "look from outside (not in this version)")
	_ = cmd.Flags().MarkHidden("remote") // cannot fail: the flag exists
	return cmd
}

func (a *app) verify(ctx context.Context, names []string) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, err := wanted.From(config)
	if err != nil {
		return err
	}
	wants, err := choose(host, names)
	if err != nil {
		return err
	}
	store, err := view(host.State)
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	r := verifyReport{OK: true, Hosts: []hostReport{}}
	var group errgroup.Group
	hosts := make([][]hostReport, len(wants))
	for i, want := range wants {
		probes := currentProbes(store, want)
		if len(probes) == 0 && !a.json && !a.quiet {
			fmt.Fprintf(a.stdout, "%s: no endpoint configured, so there was nothing to look at\n", want.Name)
		}
		group.Go(func() error {
			hosts[i] = judge(served.Look(ctx, probes), want.HostNames(), want.Roots, true)
			return nil
		})
	}
	_ = group.Wait() // the reports contain the errors
	r.Hosts = append(r.Hosts, slices.Concat(hosts...)...)
	return a.finishVerify(r)
}

// currentProbes lists the handshakes with the endpoints of a certificate. It includes key types that have no certificate.
func currentProbes(store *state.Book, want wanted.Certificate) (probes []served.Probe) {
	have, err := issued.Look(store.Lineage(want.Name), want.Keys)
	for _, address := range want.Endpoints() {
		for i, key := range want.Keys {
			p := served.Probe{Address: address, ServerName: want.ServerName(), Key: string(key), Ask: served.Ask(want.Keys, i)}
			if err == nil {
				p.Want = have.Bundles[i]
			}
			probes = append(probes, p)
		}
	}
	return probes
}

func (a *app) verifyHost(ctx context.Context, host string, port int) error {
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	var probes []served.Probe
	for _, address := range addresses {
		probes = append(probes, served.Probe{Address: net.JoinHostPort(address, strconv.Itoa(port)), ServerName: host, Key: "any", Ask: starttls.Any})
	}
	return a.finishVerify(verifyReport{OK: true, Hosts: judge(served.Look(ctx, probes), []string{host}, nil, false)})
}

// finishVerify prints the report. If one of the findings is an error, the exit code says that there is a fault.
func (a *app) finishVerify(r verifyReport) error {
	code := report.CodeOK
	for _, h := range r.Hosts {
		if finding.Worst(h.Findings) == finding.Error {
			r.OK, code = false, report.CodeFault
		}
	}
	return a.finish(answer{document: r, code: code, print: func(out sheet) { printVerify(out, r) }})
}

// judge makes a report on each address from the handshakes with it, which are next to each other in results. names are the names that the
// certificate must cover. ours says that it must be mxcert's current certificate.
func judge(results []served.Result, names []string, roots *x509.CertPool, ours bool) []hostReport {
	var hosts []hostReport
	for len(results) > 0 {
		n := slices.IndexFunc(results, func(r served.Result) bool { return r.Address != results[0].Address })
		if n < 0 {
			n = len(results)
		}
		hosts = append(hosts, judgeAddress(results[:n], names, roots, ours))
		results = results[n:]
	}
	return hosts
}

func judgeAddress(results []served.Result, names []string, roots *x509.CertPool, ours bool) hostReport {
	host, port, _ := net.SplitHostPort(results[0].Address)
	number, _ := strconv.Atoi(port) // cannot fail: configs has checked it
	h := hostReport{MX: results[0].ServerName, Address: host, Port: number, Handshakes: []handshakeReport{}, Findings: []finding.Finding{}}
	reached, trusted := false, true
	var reason, distrust string
	for _, r := range results {
		h.Handshakes = append(h.Handshakes, newHandshakeReport(r))
		if r.Err != nil {
			reason = r.Err.Error()
			h.Findings = append(h.Findings, finding.New(report.KindOf(r.Err), finding.Error, "%s", r.Err.Error()).Next(report.HintOf(r.Err)))
			continue
		}
		reached = true // senders use one key type or the other
		h.Findings = append(h.Findings, r.Shown.Findings...)
		for _, f := range starttls.CheckChain(r.Shown.Chain, names, roots, time.Now()) {
			h.Findings = append(h.Findings, f)
			if f.Severity == finding.Error || f.ID == "certificate-not-trusted" {
				trusted, distrust = false, f.Message
			}
		}
		if ours && !r.Matches {
			h.Findings = append(h.Findings, notCurrent(r.Want, r.Serial))
		}
	}
	h.Verdicts = verdicts(reached, reason, trusted, distrust)
	return h
}

func newHandshakeReport(r served.Result) handshakeReport {
	shake := handshakeReport{ServerName: r.ServerName, Key: r.Key, Matches: r.Matches, Serial: r.Serial}
	if r.Err != nil {
		shake.Error = r.Err.Error()
		return shake
	}
	shake.Chain, shake.Seconds = len(r.Shown.Chain), r.Shown.Elapsed.Seconds()
	shake.NotAfter = r.Shown.Chain[0].NotAfter.UTC().Format(time.RFC3339)
	shake.TLS, shake.Cipher = tls.VersionName(r.Shown.Version), tls.CipherSuiteName(r.Shown.Cipher)
	return shake
}

func notCurrent(want *bundle.Bundle, serial string) finding.Finding {
	f := finding.Finding{ID: "not-current", Severity: finding.Error, Hint: "run: mxcert renew",
		Message: fmt.Sprintf("the served certificate (serial %s) was not issued through mxcert", serial)}
	if want != nil {
		f.Message = fmt.Sprintf("serial %s is served, but serial %s is current", serial, want.Serial())
	}
	return f
}

// verdicts returns what each kind of sender would decide. Without a look at DNS, it cannot know about DANE and MTA-STS, and it does not
// guess.
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

func printVerify(out sheet, r verifyReport) {
	if len(r.Hosts) == 0 {
		fmt.Fprintln(out, "no endpoint configured, so mxcert cannot tell whether the certificate is served")
	}
	for _, h := range r.Hosts {
		fmt.Fprintf(out, "%s at %s\n", h.MX, net.JoinHostPort(h.Address, strconv.Itoa(h.Port)))
		for _, s := range h.Handshakes {
			if s.Error != "" {
				out.line("handshake", "%s: failed", s.Key)
				continue
			}
			out.line("handshake", "%s: %s %s, %d certificates sent, serial %s, valid until %s (%.0f ms)",
				s.Key, s.TLS, s.Cipher, s.Chain, s.Serial, s.NotAfter, s.Seconds*1000)
		}
		for _, name := range []string{"opportunistic", "pkix", "dane", "mta_sts", "requiretls"} {
			out.line(name, "%s: %s", h.Verdicts[name].Result, h.Verdicts[name].Reason)
		}
		for _, f := range h.Findings {
			out.line(string(f.Severity), "%s: %s", f.ID, f.Message)
			if f.Hint != "" {
				out.line("next step", "%s", f.Hint)
			}
		}
	}
}
