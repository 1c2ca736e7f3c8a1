package dane

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// served is the record of the key that a site serves.
func (w *town) served(s *site) (string, error) {
	keys, err := w.keys(s)
	return "3 1 1 " + keys[s.kinds[0]], err
}

// switchTo gives sites another backend, and the daemon another configuration.
func (w *town) switchTo(backends map[*site]string) {
	w.t.Helper()
	for s, backend := range backends {
		s.backend = backend
	}
	w.configure()
	w.must("systemctl", "reload", "mxcert")
}

// Records that are behind an alias, below a wildcard, in a zone of their own, beside those of somebody else, or signed seconds after the server
// has taken them; a change of the mode from check to publish, with a record that was made by hand; the same with a certificate of certbot; and
// from publish to off, until the key is free. No mail is deferred by any of it.
func TestPlacesAndModes(t *testing.T) {
	t.Parallel()
	alias := &site{name: "alias", extra: "_25._tcp.mx 2 CNAME _dane.mx\n"}
	wild := &site{name: "wild", backend: "check"}
	taken := &site{name: "taken", service: "knot", backend: "check"}
	left := &site{name: "left", unsent: true} // without records, a sender that insists on them cannot deliver
	heir := &site{name: "heir", service: "knot", backend: "off"}
	later := &site{name: "later", service: "knot", signing: "later"}
	cut := &site{name: "cut", extra: "_tcp.mx NS ns1._tcp.mx\n_tcp.mx NS ns2._tcp.mx\n_tcp.mx NS ns3._tcp.mx\n" +
		"ns1._tcp.mx A " + bindPrimary + "\nns2._tcp.mx A " + lateSecondary + "\nns3._tcp.mx A " + promptSecondary + "\n"}
	below := &site{name: "_tcp.mx.cut", zoneOnly: true}
	w := newTown(t, alias, wild, taken, left, heir, later, cut, below)
	w.check(w.Zones.update(t.Context(), cut, fmt.Sprintf("update add %s. 60 DS %s", below.domain(), w.ds[below.domain()])))
	w.install()
	w.must("systemctl", "start", "mxcert")
	byHand := map[*site]string{}
	w.each(t, func(s *site) error {
		if s.backend != "check" && s != heir {
			return w.awaitSteady(t.Context(), s, startLimit)
		}
		return w.await(t.Context(), startLimit, s, func() string {
			if _, err := w.keys(s); err != nil {
				return err.Error()
			}
			return ""
		})
	})
	for _, s := range []*site{wild, taken} {
		record, err := w.served(s)
		w.check(err)
		byHand[s] = record
		if s == wild {
			w.check(w.Zones.update(t.Context(), s, fmt.Sprintf("update add *._tcp.mx.%s. %d TLSA %s", s.domain(), s.ttl, record)))
		} else {
			w.check(w.publish(t.Context(), s, record))
		}
	}
	w.bequeath(heir)
	wait(t.Context(), 8*time.Second) // the late secondary, and caches of "no records"
	if t.Failed() {
		t.Fatal(w.Mail.Diagnose())
	}
	began := time.Now()
	done := w.during(t, func(ctx context.Context) {
		w.switchTo(map[*site]string{wild: "rfc2136", taken: "rfc2136", left: "off", heir: "rfc2136"})
		w.each(t, func(s *site) error {
			switch s {
			case left:
				return w.leave(ctx, s)
			case heir:
				if err := w.awaitSteady(ctx, s, rollLimit); err != nil {
					return err
				}
				if r := w.mxcert(ctx, "tlsa", "publish", s.name, "--adopt"); r.Code != 0 && r.Code != 75 {
					return fmt.Errorf("tlsa publish %s --adopt: exit status %d\n%s%s", s.name, r.Code, r.Stdout, r.Stderr)
				}
				return w.roll(ctx, s, rollLimit)
			case later: // the second change is asked for before its key has a record
				if err := w.awaitSteady(ctx, s, rollLimit); err != nil {
					return err
				}
				w.rollAsked(ctx, t, s)
				return w.roll(ctx, s, rollLimit)
			case taken:
				return w.takeOver(ctx, s, byHand[s])
			case wild: // a record at the name would hide the wildcard's: the operator goes first
				wait(ctx, 5*time.Second)
				if g, err := w.give(bindPrimary, s.owners()[0]); err != nil || g.set != byHand[s] {
					return fmt.Errorf("wild: the servers give %q, %v", g.set, err)
				}
				if err := w.publish(ctx, s, byHand[s]); err != nil {
					return err
				}
				return w.takeOver(ctx, s, byHand[s])
			}
			if err := w.awaitSteady(ctx, s, rollLimit); err != nil {
				return err
			}
			return w.roll(ctx, s, rollLimit)
		})
	})
	w.judge(t, done)
	figure(t, "%s, in %.0f s", done, time.Since(began).Seconds())
	if t.Failed() {
		t.Log(w.Mail.Diagnose())
	}
}

// leave asks for another key again and again, and returns when mxcert gives one although no server has records any more: the key is free. The
// checker sees whether somebody may still hold the records.
func (w *town) leave(ctx context.Context, s *site) error {
	return w.await(ctx, rollLimit, s, func() string {
		left := w.published(s)
		before, err := w.keys(s)
		if err != nil {
			return err.Error()
		}
		r := w.mxcert(ctx, "renew", s.name, "--new-key")
		after, err := w.keys(s)
		if err != nil || r.Code != 0 || after[s.kinds[0]] == before[s.kinds[0]] {
			return fmt.Sprintf("the key is not free, %v: exit status %d\n%s%s", err, r.Code, r.Stdout, r.Stderr)
		}
		return left
	})
}

// bequeath makes the certificate of a site one that certbot has, with a record that was made by hand, and has mxcert import it. It stops the
// daemon meanwhile.
func (w *town) bequeath(s *site) {
	w.t.Helper()
	record, err := w.served(s)
	w.check(err)
	w.check(w.publish(w.t.Context(), s, record))
	w.must("sh", "-ec", fmt.Sprintf(`systemctl stop mxcert
umask 077
served=$(sed -n 's/^mx[^:]*: *//p' %[2]s | head -n 1)
cd /etc; mkdir -p letsencrypt/renewal letsencrypt/live/%[1]s letsencrypt/archive/%[1]s
cd letsencrypt/archive/%[1]s
openssl pkey -in $served -out privkey1.pem
sed -n '/BEGIN CERT/,/END CERT/p' $served >fullchain1.pem
for f in privkey fullchain; do ln -s ../../archive/%[1]s/${f}1.pem ../../live/%[1]s/$f.pem; done
echo 'server = https://127.0.0.1:14000/dir' >../../renewal/%[1]s.conf
rm -r /var/lib/mxcert/lineages/%[1]s
mxcert import certbot
systemctl start mxcert`, s.name, s.sniMap()))
}

// published says which records of a site some server still gives.
func (w *town) published(s *site) string {
	for _, address := range s.servers() {
		for _, owner := range s.owners() {
			if g, err := w.give(address, owner); err != nil || g.set != "" {
				return fmt.Sprintf("%s gives %q at %s, %v", address, g.set, owner, err)
			}
		}
	}
	return ""
}

// takeOver rolls a site whose record was made by hand, first without the operator's consent, when the record stays, and then with it.
func (w *town) takeOver(ctx context.Context, s *site, record string) error {
	// The served key's own record is that of the operator.
	if err := w.awaitSteady(ctx, s, rollLimit); err != nil {
		return err
	}
	before, err := w.keys(s)
	if err != nil {
		return err
	}
	if r := w.mxcert(ctx, "tlsa", "roll", s.name); r.Code != 0 && r.Code != 75 {
		return fmt.Errorf("tlsa roll %s: exit status %d\n%s%s", s.name, r.Code, r.Stdout, r.Stderr)
	}
	err = w.await(ctx, rollLimit, s, func() string {
		if after, err := w.keys(s); err != nil || after[s.kinds[0]] == before[s.kinds[0]] {
			return fmt.Sprintf("the old key is still served, %v", err)
		}
		return w.unsteady(s, record)
	})
	if err != nil {
		return fmt.Errorf("the record of the operator has to stay: %w", err)
	}
	wait(ctx, 12*time.Second)
	if lacks := w.unsteady(s, record); lacks != "" {
		return fmt.Errorf("the record of the operator has to stay: %s", lacks)
	}
	return nil
}
