package wanted

import (
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/configs"
)

// withMail is a certificate with two configured names, one optional wildcard and a mail domain.
func withMail(t *testing.T, more string) Certificate {
	t.Helper()
	config, err := configs.Parse("test", fmt.Appendf(nil, `acme: {agree_tos: true, directory: letsencrypt-staging%s}
dns: {provider: exec, env: {EXEC_PATH: /bin/true}}
certificates:
  - {name: mx, domains: [mx.example.org, host7.example.org], optional: ["*.customer.example"], mail_domains: [example.org], mail_domains_confirm: 2h, verify: {endpoints: []}}
public_addresses: ["192.0.2.10"]
`, more))
	if err != nil {
		t.Fatal(err)
	}
	host, err := From(config)
	if err != nil {
		t.Fatal(err)
	}
	return host.Certificates[0]
}

// Configured names win, what a wildcard covers is left out, and what is too much is said.
func TestWithFound(t *testing.T) {
	t.Parallel()
	c := withMail(t, "")
	if c.ConfirmAfter != 2*time.Hour || len(c.PublicAddresses) != 1 || !slices.Equal(c.MailDomains, []string{"example.org"}) {
		t.Errorf("%+v", c)
	}
	before := c.Fingerprint()
	with, over := c.WithFound([]Found{{"mx2.example.org", "MX of example.org"}, {"mx.example.org", "MX of example.org"}, {"mx.customer.example", "MX of example.org"}, {"self.example.org", "host name"}})
	want := map[string]string{"mx.example.org": "configured", "host7.example.org": "configured", "*.customer.example": "configured", "mx2.example.org": "MX of example.org", "self.example.org": "host name"}
	if len(over) != 0 || !reflect.DeepEqual(with.Reasons(), want) || strings.Join(with.Names, " ") != "mx.example.org host7.example.org *.customer.example mx2.example.org self.example.org" ||
		!with.IsOptional("mx2.example.org") || !slices.Equal(with.Required(), []string{"mx.example.org", "host7.example.org"}) || with.Fingerprint() != before {
		t.Errorf("%+v, %+v, %v", with.Names, over, with.Reasons())
	}
	if again, _ := with.WithFound(nil); len(again.Names) != 3 || len(again.Found) != 0 {
		t.Errorf("%v", again.Names)
	}
	var many []Found
	for i := range 200 {
		many = append(many, Found{fmt.Sprintf("m%03d.example.org", i), "MX of example.org"})
	}
	for more, most := range map[string]int{"": 100, ", profile: shortlived": 25} {
		c := withMail(t, more)
		if with, over := c.WithFound(many); len(with.Names) != most || len(over) != 203-most || over[0].Name != many[most-3].Name {
			t.Errorf("%q: %d names, %d over", more, len(with.Names), len(over))
		}
	}
	c.MailDomains = nil
	if with, over := c.WithFound(many); len(with.Names) != 3 || len(over) != 0 {
		t.Errorf("without mail domains: %v", with.Names)
	}
}

// A name that is only in the certificate counts if a CA that counts has issued it.
func TestNamesOf(t *testing.T) {
	t.Parallel()
	c := withMail(t, "")
	b := issuer.New(t).Issue(t, time.Hour, "mx.example.org", "mx2.example.org")
	if got := c.NamesOf(b); len(got) != 3 {
		t.Errorf("of a CA that nobody knows: %v", got)
	}
	c.Roots = x509.NewCertPool()
	c.Roots.AddCert(b.Chain()[1])
	if got := c.NamesOf(b); !slices.Contains(got, "mx2.example.org") {
		t.Errorf("of a CA that counts: %v", got)
	}
	c.MailDomains = nil
	if got := c.NamesOf(b); slices.Contains(got, "mx2.example.org") {
		t.Errorf("without mail domains: %v", got)
	}
}
