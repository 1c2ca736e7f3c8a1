package judges

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// table is all rows, by kind.
var table = map[string][]row{
	"dane": daneRows, "chain": chainRows, "name": nameRows, "state": stateRows, "alias": aliasRows, "smtp": smtpRows, "tls": tlsRows,
	"policy": policyRows, "require": requireRows, "later": laterRows,
}

// TestTable asks all judges about the rows, or about those whose KIND/ID matches the regular expression in MXCERT_JUDGES.
func TestTable(t *testing.T) {
	mailhost.Require(t)
	var rows []row
	only := regexp.MustCompile(os.Getenv("MXCERT_JUDGES"))
	for _, kind := range kindsOf(table) {
		for _, r := range table[kind] {
			if only.MatchString(kind + "/" + r.id) {
				rows = append(rows, r)
			}
		}
	}
	began := time.Now()
	lap := func(what string) {
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	p, err := newPKI(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seats, err := seatsOf(rows, p)
	if err != nil {
		t.Fatal(err)
	}
	lap("certificates")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := openWorld(ctx, t, p, seats)
	lap("servers")
	got := judge(ctx, t, w, seats)
	lap("judges")
	record(t, w, seats, got)
	check(t, seats, got, w.Release)
}

func kindsOf(table map[string][]row) []string {
	var names []string
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// seatsOf gives each row an address of the two documentation networks of the receiver.
func seatsOf(rows []row, p *pki) ([]*seat, error) {
	var seats []*seat
	for i, r := range rows {
		s, err := seatOf(r, addressOf(i), addressOf(i+1), p)
		if err != nil {
			return nil, err
		}
		seats = append(seats, s)
	}
	return seats, nil
}

func addressOf(i int) string {
	if i >= 250 {
		return fmt.Sprintf("198.51.100.%d", 100+i-250)
	}
	return fmt.Sprintf("203.0.113.%d", 1+i)
}

// record writes the answers to the file of MXCERT_JUDGES_RECORD, for whoever reads them into the table, and logs beside it.
func record(t *testing.T, w *world.World, seats []*seat, got []answers) {
	path := os.Getenv("MXCERT_JUDGES_RECORD")
	if path == "" {
		return
	}
	all := map[string][2]string{}
	for i, s := range seats {
		all[s.id] = [2]string{got[i].String(), strings.Join(divergent(got[i]), ", ")}
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for file, h := range map[string]*world.Host{"/var/log/postfix.log": w.Sender, "/var/log/exim4/try-mainlog": w.Sender.In(world.Exim)} {
		if log, err := h.Read(file); err == nil {
			_ = os.WriteFile(path+"."+filepath.Base(file), []byte(log), 0o644)
		}
	}
}

// openNames makes a world with the names of all seats, and with mxcert on its sender.
func openNames(ctx context.Context, t *testing.T, p *pki, seats []*seat) *world.World {
	w := world.Start(t, "")
	for _, address := range []string{nameServer, deafServer, lameServer, stsServer} {
		if err := w.Receiver.AddAddress(address + "/24"); err != nil {
			t.Fatal(err)
		}
	}
	z, err := newZones(seats)
	if err == nil {
		err = z.serve(ctx, w, timesOf(seats))
	}
	if err == nil {
		err = w.Sender.Install(ctx, "mxcert/cmd/mxcert", "/usr/bin/mxcert")
	}
	for _, h := range []*world.Host{w.Sender.In(world.Postfix), w.Sender.In(world.Exim)} {
		err = errors.Join(err, h.Write("/etc/judges/anchors.pem", p.anchors(), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// openWorld makes a world with the names and the servers of all seats.
func openWorld(ctx context.Context, t *testing.T, p *pki, seats []*seat) *world.World {
	w := openNames(ctx, t, p, seats)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	for _, start := range []func() error{
		func() error { return serveFaultyDNS(w, ended) },
		func() error { return serveMail(ctx, w, seats) },
		func() error { return serveOdd(w, seats, ended) },
		func() error { return servePolicies(w, seats, ended) },
	} {
		if err := start(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// judge has every judge answer about every row.
func judge(ctx context.Context, t *testing.T, w *world.World, seats []*seat) []answers {
	got := make([]answers, len(seats))
	var wg sync.WaitGroup
	wg.Go(func() { verify(ctx, t, w, seats, got) })
	deliver(ctx, t, w, seats, got)
	began := time.Now()
	gate := make(chan struct{}, 6)
	for i, s := range seats {
		for _, j := range []struct {
			ask func(context.Context, *world.Host, *seat) (string, error)
			to  *string
		}{{finger, &got[i].Finger}, {openssl, &got[i].OpenSSL}, {gnutls, &got[i].GnuTLS}} {
			wg.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				answer, err := j.ask(ctx, w.Sender.In(world.Postfix), s)
				if err != nil {
					t.Errorf("%s: %v", s.id, err)
				}
				*j.to = answer
			})
		}
	}
	wg.Wait()
	t.Logf("tools: %v", time.Since(began))
	return got
}

// verify asks mxcert, once for each time. Most of that is waiting for servers that say nothing.
func verify(ctx context.Context, t *testing.T, w *world.World, seats []*seat, got []answers) {
	began := time.Now()
	for _, later := range append([]time.Duration{0}, timesOf(seats)...) {
		all, err := ours(ctx, w.Sender.In(world.Postfix), seats, later)
		if err != nil {
			t.Error(err)
		}
		for i, s := range seats {
			if s.later == later {
				got[i].Ours, got[i].Differ = all[s.mailDomain()].Ours, all[s.mailDomain()].Differ
			}
		}
	}
	t.Logf("mxcert: %v", time.Since(began))
}

// deliver sends the mails. Rows of another time have none: daemons have the time of the machine.
func deliver(ctx context.Context, t *testing.T, w *world.World, seats []*seat, got []answers) {
	now := slices.DeleteFunc(slices.Clone(seats), func(s *seat) bool { return s.later != 0 })
	began := time.Now()
	byPostfix, err := postfixDelivers(ctx, w.Sender.In(world.Postfix), now)
	if err != nil {
		t.Error(err)
	}
	t.Logf("Postfix: %v", time.Since(began))
	began = time.Now()
	byExim := map[string]map[string]string{}
	for _, variant := range eximVariants {
		if byExim[variant.name], err = eximDelivers(ctx, w.Sender.In(world.Exim), now, variant.name, variant.options); err != nil {
			t.Error(err)
		}
	}
	t.Logf("Exim: %v", time.Since(began))
	for i, s := range seats {
		if s.later != 0 {
			got[i].Postfix, got[i].Exim = "-", "-"
			continue
		}
		for _, level := range postfixLevels {
			got[i].Postfix = strings.TrimSpace(got[i].Postfix + " " + byPostfix[level+"@"+s.mailDomain()])
		}
		for _, variant := range eximVariants {
			got[i].Exim = strings.TrimSpace(got[i].Exim + " " + byExim[variant.name][s.mailDomain()])
		}
	}
}
