package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/lab"
)

func TestStartAnswers(t *testing.T) {
	l := lab.New(t, lab.Options{Secondaries: 1})
	for _, server := range l.NameServers() {
		for _, name := range []string{"mx.example.org.", "host7.example.org."} {
			reply, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), server)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
				t.Errorf("%s at %s: %v", name, server, reply.Answer)
			}
		}
	}
	pem, err := os.ReadFile(l.Path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.CA.DirectoryURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the directory answers %s", response.Status)
	}
}

func TestUpdateOfBothZones(t *testing.T) {
	l := lab.New(t, lab.Options{})
	for _, zone := range []string{lab.Zone, lab.OtherZone} {
		name := "_acme-challenge.mx." + zone
		update := new(dns.Msg).SetUpdate(zone)
		rr, err := dns.NewRR(name + " 60 IN TXT \"value\"")
		if err != nil {
			t.Fatal(err)
		}
		update.Insert([]dns.RR{rr})
		update.SetTsig(lab.KeyName, dns.HmacSHA256, 300, time.Now().Unix())
		client := dns.Client{Net: "tcp", TsigSecret: map[string]string{lab.KeyName: l.Secret()}}
		reply, _, err := client.Exchange(update, l.Primary.Address())
		if err != nil {
			t.Fatal(err)
		}
		if reply.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %s", zone, dns.RcodeToString[reply.Rcode])
		}
		if got := l.World.TXT(name); len(got) != 1 || got[0] != "value" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}
