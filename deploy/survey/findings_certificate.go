package survey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// certificates judges each chain that the server shows for its own name.
func (v *view) certificates() {
	var seen [][]*x509.Certificate
	names := []string{v.Host}
	if sni(v.Host) == "" { // certificates have names
		names = nil
	}
	for _, h := range v.Handshakes {
		if h.Shown == nil || h.ServerName != sni(v.Host) || slices.ContainsFunc(seen, func(chain []*x509.Certificate) bool {
			return slices.EqualFunc(chain, h.Shown.Chain, (*x509.Certificate).Equal)
		}) {
			continue
		}
		seen = append(seen, h.Shown.Chain)
		v.list = append(v.list, starttls.CheckChain(h.Shown.Chain, names, v.Roots, v.At)...)
		v.weak(h.Shown.Chain)
		v.expiry(h.Shown.Chain[0])
		v.staple(h.Shown)
		v.stale(h.Shown.Chain[0])
	}
}

// weak finds keys and signatures that senders refuse or soon will. OpenSSL refuses RSA keys below 2048 bits and SHA-1 at its security level
// 2, the default of Debian.
func (v *view) weak(chain []*x509.Certificate) {
	for i, certificate := range chain[:min(len(chain), 10)] {
		switch key := certificate.PublicKey.(type) {
		case *rsa.PublicKey:
			if bits := key.N.BitLen(); bits < 2048 {
				v.add("weak-key", finding.Warning, "use RSA with 2048 bits or more, or ECDSA", "certificate %d has an RSA key of %d bits; many senders refuse it", i+1, bits)
			}
		case *ecdsa.PublicKey:
			if bits := key.Curve.Params().BitSize; bits < 256 {
				v.add("weak-key", finding.Warning, "use the curve P-256", "certificate %d has an ECDSA key of %d bits; many senders refuse it", i+1, bits)
			}
		}
		selfSigned := bytes.Equal(certificate.RawIssuer, certificate.RawSubject)
		switch certificate.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if !selfSigned { // nobody looks at the signature of a root
				v.add("weak-signature", finding.Error, "get a certificate that is signed with SHA-256", "certificate %d is signed with %s, which senders that check certificates refuse", i+1, certificate.SignatureAlgorithm)
			}
		}
	}
}

// soon is how much of its life a certificate has left when somebody should look after it. ACME clients renew with a third left, or a half
// if the life is short. A long life does not make the last three weeks longer.
func soon(certificate *x509.Certificate) time.Duration {
	return min(certificate.NotAfter.Sub(certificate.NotBefore)/4, 21*24*time.Hour)
}

func (v *view) expiry(leaf *x509.Certificate) {
	if left := leaf.NotAfter.Sub(v.At); left >= 0 && left < soon(leaf) {
		v.add("certificate-expires-soon", finding.Warning, "renew it: mxcert renew", "the certificate expires at %s, in %s", leaf.NotAfter.UTC().Format(time.RFC3339), life(left))
	}
}

func life(d time.Duration) string {
	if days := int(d.Hours()) / 24; days > 1 {
		return strconv.Itoa(days) + " days"
	}
	return strconv.Itoa(int(d.Hours())) + " hours"
}

// staple finds a certificate that demands a stapled response (RFC 7633) from a server that sends none.
func (v *view) staple(r *starttls.Result) {
	if verdict.MustStaple(r.Chain[0]) && len(r.Staple) == 0 {
		v.add("must-staple", finding.Warning, "staple OCSP responses, or get a certificate without the demand", "the certificate demands a stapled OCSP response (must-staple), and the server sends none: senders with GnuTLS refuse it")
	}
}

// stale compares a leaf of a host of ours with what is deployed.
func (v *view) stale(leaf *x509.Certificate) {
	if len(v.deployed) == 0 || slices.ContainsFunc(v.deployed, leaf.Equal) {
		return
	}
	for _, deployed := range v.deployed {
		if deployed.PublicKeyAlgorithm == leaf.PublicKeyAlgorithm && leaf.NotBefore.Before(deployed.NotBefore) {
			v.add("older-than-deployed", finding.Error, "reload the mail server, and check that it reads the deployed files: mxcert deploy",
				"the server shows the certificate with serial %s of %s, older than the deployed one with serial %s", bundle.SerialOf(leaf), day(leaf), bundle.SerialOf(deployed))
			return
		}
	}
}

func day(certificate *x509.Certificate) string {
	return certificate.NotBefore.UTC().Format(time.DateOnly)
}

// doubt makes a warning of what Go's verifier says of a chain that other libraries may judge otherwise.
func doubt(list []finding.Finding) {
	for i, f := range list {
		if f.Severity == finding.Error && slices.Contains([]string{"chain-invalid", "chain-incomplete", "certificate-not-trusted"}, f.ID) {
			list[i].Severity = finding.Warning
		}
	}
}

// compare finds addresses and ports of one host that show different certificates for keys of the same type.
func compare(entries []Host) {
	type shown struct {
		leaf *x509.Certificate
		at   string
	}
	first := map[x509.PublicKeyAlgorithm]shown{}
	for i := range entries {
		e := &entries[i]
		at := hostPort(e.Address, e.Port)
		for _, h := range e.Handshakes {
			if h.Shown == nil || h.ServerName != sni(e.Host) {
				continue
			}
			leaf := h.Shown.Chain[0]
			before, ok := first[leaf.PublicKeyAlgorithm]
			if !ok {
				first[leaf.PublicKeyAlgorithm] = shown{leaf, at}
			} else if !before.leaf.Equal(leaf) && before.at != at {
				e.Findings = merged(e.Findings, []finding.Finding{finding.New("certificates-differ", finding.Warning,
					"%s shows the certificate with serial %s, %s another with serial %s", at, bundle.SerialOf(leaf), before.at, bundle.SerialOf(before.leaf)).
					Next("right if several machines answer; otherwise deploy the newer one everywhere")})
			}
		}
	}
}

func hostPort(address netip.Addr, port int) string {
	return net.JoinHostPort(address.String(), strconv.Itoa(port))
}
