package world

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// PlainResolver is the address on the sender of a resolver that does not validate (BIND).
const PlainResolver = "127.0.0.2"

// StartPlainResolver starts a resolver on the sender that answers with the world's signatures, but does not validate them: no answer has AD.
func (d *DNS) StartPlainResolver(ctx context.Context) error {
	s := d.world.Sender
	conf := fmt.Sprintf(`options {
	directory "/tmp"; listen-on { %s; }; listen-on-v6 { none; };
	recursion yes; allow-query { any; }; dnssec-validation no; empty-zones-enable no; qname-minimization off; pid-file none; session-keyfile none;
	resolver-query-timeout 1500; max-records-per-type 0;
};
controls { };
logging { channel errors { stderr; severity error; }; category default { errors; }; };
zone "." { type hint; file %q; };
`, PlainResolver, d.Hints)
	if err := s.Write("/etc/world/plain-resolver.conf", conf, 0o644); err != nil {
		return err
	}
	// BIND listens on addresses that an interface has.
	if err := s.network("address", "add", PlainResolver+"/32", "dev", "lo"); err != nil {
		return err
	}
	p, err := s.Start("named", "-f", "-n", "1", "-c", "/etc/world/plain-resolver.conf")
	if err != nil {
		return err
	}
	d.logs["plain resolver"] = p
	if err := s.AwaitPort(ctx, PlainResolver+":53"); err != nil {
		return fmt.Errorf("named: %w\n%s", err, p.Output())
	}
	return nil
}

// IteratorResolver is the address on the sender of an Unbound that does not validate, for delv: it gives up soon, where BIND takes ten seconds.
const IteratorResolver = "127.0.0.4"

// StartIterator starts it.
func (d *DNS) StartIterator(ctx context.Context) error {
	s := d.world.Sender
	conf := strings.Replace(d.UnboundConf(IteratorResolver), `"validator iterator"`, `"iterator"`, 1)
	if err := s.Write("/etc/world/iterator.conf", conf, 0o644); err != nil {
		return err
	}
	p, err := s.Start("unbound", "-d", "-c", "/etc/world/iterator.conf")
	if err != nil {
		return err
	}
	d.logs["unbound that does not validate"] = p
	if err := s.AwaitPort(ctx, IteratorResolver+":53"); err != nil {
		return fmt.Errorf("unbound: %w\n%s", err, p.Output())
	}
	return nil
}

// StartValidator starts one more Unbound on an address of the sender that is not on loopback; it adds the address. It also answers over TLS
// on port 853, with a certificate for name, and returns the path, on the sender, of the root to trust.
func (d *DNS) StartValidator(ctx context.Context, address, name string) (root string, err error) {
	s := d.world.Sender
	base := "/etc/world/unbound-" + address
	conf := d.UnboundConf(address) + fmt.Sprintf("server:\n  interface: %s@853\n  tls-service-key: %s.key\n  tls-service-pem: %[2]s.pem\n", address, base)
	if err := errors.Join(s.AddAddress(address+"/24"), s.Write(base+".conf", conf, 0o644)); err != nil {
		return "", err
	}
	_, err = s.Must(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=resolver", "-addext", "subjectAltName=DNS:"+name, "-keyout", base+".key", "-out", base+".pem")
	if err != nil {
		return "", err
	}
	p, err := s.Start("unbound", "-d", "-c", base+".conf")
	if err != nil {
		return "", err
	}
	d.logs["unbound on "+address] = p
	if err := s.AwaitPort(ctx, address+":853"); err != nil {
		return "", fmt.Errorf("unbound: %w\n%s", err, p.Output())
	}
	return base + ".pem", nil
}
