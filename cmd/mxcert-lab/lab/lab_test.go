package lab_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/configs"
)

// update sends a signed update that adds TXT records of one zone.
func update(t *testing.T, l *lab.Lab, server, zone string, records map[string]string) int {
	t.Helper()
	message := new(dns.Msg).SetUpdate(zone)
	for name, value := range records {
		message.Insert([]dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{value}}})
	}
	message.SetTsig(lab.KeyName, dns.HmacSHA256, 300, time.Now().Unix())
	client := dns.Client{Net: "tcp", Timeout: time.Minute, TsigSecret: map[string]string{lab.KeyName: l.Secret()}}
	reply, _, err := client.ExchangeContext(t.Context(), message, server)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Rcode
}

func lookUp(t *testing.T, server, name string, qtype uint16) []string {
	t.Helper()
	client := dns.Client{Timeout: time.Minute}
	reply, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, qtype), server)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, rr := range reply.Answer {
		found = append(found, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(found)
	return found
}

func TestZones(t *testing.T) {
	l := lab.New(t, lab.Options{Secondaries: 2})
	if len(l.NameServers()) != 3 {
		t.Fatalf("name servers: %v", l.NameServers())
	}
	for _, server := range l.NameServers() {
		for _, test := range []struct {
			name  string
			qtype uint16
			want  []string
		}{
			{"mx.example.org.", dns.TypeA, []string{"127.0.0.1"}},
			{"host7.example.org.", dns.TypeA, []string{"127.0.0.1"}},
			{"example.org.", dns.TypeMX, []string{"10 mx.example.org."}},
			{"example.com.", dns.TypeMX, []string{"10 mx.example.org."}},
			{"example.org.", dns.TypeNS, []string{"ns1.example.org.", "ns2.example.org.", "ns3.example.org."}},
			{"example.com.", dns.TypeNS, []string{"ns1.example.org.", "ns2.example.org.", "ns3.example.org."}},
		} {
			if got := lookUp(t, server, test.name, test.qtype); !slices.Equal(got, test.want) {
				t.Errorf("%s %s at %s: %q, want %q", test.name, dns.TypeToString[test.qtype], server, got, test.want)
			}
		}
	}
	for i, server := range l.NameServers() { // the name servers' addresses are those at which they listen
		host, _, err := net.SplitHostPort(server)
		if err != nil {
			t.Fatal(err)
		}
		name := []string{"ns1.example.org.", "ns2.example.org.", "ns3.example.org."}[i]
		if got := lookUp(t, server, name, dns.TypeA); !slices.Equal(got, []string{host}) {
			t.Errorf("%s: %q, want %s", name, got, host)
		}
	}
}

func TestUpdates(t *testing.T) {
	l := lab.New(t, lab.Options{Secondaries: 1, DNSLag: time.Hour})
	for _, zone := range []string{lab.Zone, lab.OtherZone} {
		name := "_acme-challenge.mx." + zone
		if rcode := update(t, l, l.Primary.Address(), zone, map[string]string{name: "value"}); rcode != dns.RcodeSuccess {
			t.Errorf("%s at the primary: %s", zone, dns.RcodeToString[rcode])
		}
		if rcode := update(t, l, l.NameServers()[1], zone, map[string]string{name: "other"}); rcode != dns.RcodeRefused {
			t.Errorf("%s at the secondary: %s", zone, dns.RcodeToString[rcode])
		}
		if got := l.World.TXT(name); !slices.Equal(got, []string{"value"}) {
			t.Errorf("%s holds %q", name, got)
		}
		for _, server := range l.NameServers() {
			if got := lookUp(t, server, name, dns.TypeTXT); len(got) != 0 {
				t.Errorf("%s at %s in spite of the lag: %q", name, server, got)
			}
		}
	}
}

func TestConfigIsAccepted(t *testing.T) {
	for _, test := range []struct {
		options lab.Options
		config  lab.ConfigOptions
	}{
		{},
		{lab.Options{Secondaries: 1, Keys: []string{"ec256", "rsa2048"}}, lab.ConfigOptions{Domains: []string{"mx.example.org"}, Profile: "short"}},
		{config: lab.ConfigOptions{Endpoints: []string{}, Extra: "log: {level: debug}\n"}},
		{lab.Options{Directory: filepath.Join(t.TempDir(), `a "lab" here`)}, lab.ConfigOptions{}},
	} {
		l := lab.New(t, test.options)
		config, err := configs.Load(l.WriteConfig(t, test.config))
		if err != nil {
			t.Errorf("%v\n%s", err, l.Config(test.config))
			continue
		}
		if got := config.Warnings(dnsprovider.Secret); len(got) > 0 {
			t.Errorf("warnings: %v", got)
		}
		if config.ACME.Directories[0] != l.CA.DirectoryURL() || config.Certificates[0].Name != "mx" {
			t.Errorf("loaded: %+v", config)
		}
		secret, err := os.ReadFile(l.Path("credentials", "tsig"))
		if err != nil || strings.TrimSpace(string(secret)) != l.Secret() {
			t.Errorf("the secret's file: %q, %v", secret, err)
		}
		for _, file := range []string{"credentials/tsig", "mxcert.yaml"} {
			if info, err := os.Stat(l.Path(file)); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v, %v", file, info.Mode(), err)
			}
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := append(l.NameServers(), l.SMTP.Address(), strings.TrimSuffix(strings.TrimPrefix(l.CA.DirectoryURL(), "https://"), "/dir"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s still takes connections", address)
		}
	}
	if _, err := os.Stat(l.Directory); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary directory: %v", err)
	}
}

// TestFailedStartLeavesNothing fails at each server, and looks whether those before it are gone.
func TestFailedStartLeavesNothing(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for what, opts := range map[string]lab.Options{
		"name server": {DNSListen: address}, "CA": {CA: ca.Options{Listen: address}}, "SMTP server": {SMTPListen: address},
	} {
		l, err := lab.Start(t.Context(), opts)
		if err == nil {
			_ = l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("with the %s's port taken: %v", what, err)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := lab.Start(ended, lab.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestServersCanBeClosedBefore takes servers away in the middle of a test.
func TestServersCanBeClosedBefore(t *testing.T) {
	l := lab.New(t, lab.Options{})
	for what, closing := range map[string]func() error{"SMTP server": l.SMTP.Close, "CA": l.CA.Close, "name server": l.Primary.Close} {
		for range 2 {
			if err := closing(); err != nil {
				t.Errorf("close the %s: %v", what, err)
			}
		}
	}
}
