package wanted_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// A configuration becomes targets for each key type, units by how they are reloaded, and names.
func TestTranslation(t *testing.T) {
	t.Parallel()
	host := load(t, good)
	mx, list := host.Certificates[0], host.Certificates[1]
	if want := []bundle.KeyType{bundle.EC256, "rsa2048"}; !reflect.DeepEqual(mx.Keys, want) {
		t.Errorf("keys %v", mx.Keys)
	}
	targets := mx.Targets()
	if len(targets) != 6 || targets[0].Certificate != "/etc/exim4/ec256.crt" || targets[3].Certificate != "/etc/exim4/rsa2048.crt" || targets[4].Combined != "/etc/exim4/tls/mx.rsa2048.{serial}.pem" {
		t.Errorf("targets %+v", targets)
	}
	if !targets[1].Default || list.Targets()[1].Default || targets[0].Default {
		t.Error("the first certificate of a map is the one for clients that ask for no name, and only that")
	}
	if !targets[2].Unchecked || targets[2].Unit != "third.service" || targets[0].Unit != "exim4.service" {
		t.Errorf("target %+v", targets[2])
	}
	for ways, want := range map[string][]string{"always": {"exim4.service"}, "auto": {"other.service"}, "never": {"third.service"}} {
		if got := mx.Units(wanted.Reload(ways)); !slices.Equal(got, want) {
			t.Errorf("units %s: %v, want %v", ways, got, want)
		}
	}
	if got, want := host.Units(), []string{"dovecot.service", "exim4.service", "other.service"}; !slices.Equal(got, want) {
		t.Errorf("units of the host: %v, want %v", got, want)
	}
	if len(list.Windows) != 1 || list.Windows[0].From != time.Hour || !list.Windows[0].Days[time.Saturday] || list.Windows[0].Days[time.Monday] {
		t.Errorf("windows %+v", list.Windows)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	host := load(t, good)
	mx, list := host.Certificates[0], host.Certificates[1]
	if mx.ServerName() != "mx.example.org" || list.ServerName() != "mx.lists.example.org" {
		t.Errorf("server names %s, %s", mx.ServerName(), list.ServerName())
	}
	if got := list.HostNames(); len(got) != 0 {
		t.Errorf("a wildcard is not a host name: %v", got)
	}
	if got := mx.HostNames(); !slices.Equal(got, mx.Names) {
		t.Errorf("host names %v", got)
	}
	if got := list.Endpoints(); !slices.Contains(got, "127.0.0.1:993") || !slices.Contains(got, "127.0.0.1:25") {
		t.Errorf("endpoints of Dovecot and Exim: %v", got)
	}
	if got := mx.Endpoints(); !slices.Contains(got, "127.0.0.1:25") || slices.Contains(got, "127.0.0.1:993") {
		t.Errorf("endpoints of Exim: %v", got)
	}
}

// Optional names stand behind the others, and no server has to show a certificate for them.
func TestOptionalNames(t *testing.T) {
	t.Parallel()
	mx := load(t, strings.Replace(good, "host7.example.org]", "host7.example.org]\n    optional: [mx.customer.example]", 1)).Certificates[0]
	required := []string{"mx.example.org", "host7.example.org"}
	if got := append(slices.Clone(required), "mx.customer.example"); !slices.Equal(mx.Names, got) || !slices.Equal(mx.Required(), required) {
		t.Errorf("names %v, required %v", mx.Names, mx.Required())
	}
	if mx.ServerName() != required[0] || !slices.Equal(mx.ClientNames(), required) || !slices.Equal(mx.HostNames(), required) {
		t.Errorf("server name %s, client names %v, host names %v", mx.ServerName(), mx.ClientNames(), mx.HostNames())
	}
	if !mx.IsOptional("mx.customer.example") || mx.IsOptional("mx.example.org") {
		t.Error("which names are optional?")
	}
}

// The fingerprint of the proof changes with the settings of DNS and the CA, not with the names.
func TestProofFingerprint(t *testing.T) {
	t.Parallel()
	before := load(t, good).Certificates[0].ProofFingerprint()
	for edit, differs := range map[[2]string]bool{{"host7.", "host8."}: false, {"192.0.2.53", "192.0.2.54"}: true, {"ca.example", "ca2.example"}: true} {
		if after := load(t, strings.Replace(good, edit[0], edit[1], 1)).Certificates[0].ProofFingerprint(); (after != before) != differs {
			t.Errorf("after the edit %v it differs: %v", edit, !differs)
		}
	}
}

// Jobs exist for the key types that have a certificate.
func TestJobs(t *testing.T) {
	t.Parallel()
	mx := load(t, good).Certificates[0]
	if jobs := mx.Jobs([]*bundle.Bundle{nil, nil}); len(jobs) != 0 {
		t.Errorf("jobs without a certificate: %+v", jobs)
	}
	b := &bundle.Bundle{}
	jobs := mx.Jobs([]*bundle.Bundle{nil, b})
	if len(jobs) != 3 || jobs[0].Bundle != b || jobs[0].Target.Certificate != "/etc/exim4/rsa2048.crt" || !slices.Equal(jobs[0].Names, mx.Names) {
		t.Errorf("jobs of the second key: %+v", jobs)
	}
}

// Two servers that read the same files get one job, and both are reloaded; each is asked what it reads.
func TestSharedFiles(t *testing.T) {
	t.Parallel()
	const files = "{certificate: /etc/ssl/mail/mx.crt, private_key: /etc/ssl/mail/mx.key}"
	mx := load(t, "acme: {agree_tos: true}\ndns: {provider: exec, env: {EXEC_PATH: /bin/true}}\ncertificates:\n  - name: mx\n    domains: [mx.example.org]\n    deploy:\n      - postfix: "+files+"\n      - dovecot: "+files+"\n").Certificates[0]
	if jobs := mx.Jobs([]*bundle.Bundle{{}}); len(jobs) != 1 || jobs[0].Target.Kind != "postfix" {
		t.Errorf("jobs %+v", jobs)
	}
	if got := mx.Units(wanted.Always); !slices.Equal(got, []string{"postfix.service", "dovecot.service"}) || len(mx.Targets()) != 2 {
		t.Errorf("units %v, targets %+v", got, mx.Targets())
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	host := load(t, good)
	if all, err := host.Choose(nil); err != nil || len(all) != 2 {
		t.Errorf("%d certificates, %v", len(all), err)
	}
	if one, err := host.Choose([]string{"list"}); err != nil || len(one) != 1 || one[0].Name != "list" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := host.Choose([]string{"mx", "nonsense"}); err == nil || err.Error() != `the configuration has no certificate "nonsense"; it has: mx, list` {
		t.Errorf("%v", err)
	}
}

// A secret that cannot be read is named when it is needed, and not before.
func TestSecretsAreReadWhenNeeded(t *testing.T) {
	t.Parallel()
	mx := load(t, good).Certificates[0]
	if _, err := mx.Accounts(mx.Resolver())[0].Solver(); err == nil || report.HintOf(err) == "" && err.Error() == "" {
		t.Errorf("the secret of the provider does not exist: %v", err)
	}
	if settings, err := load(t, good).Authorities("1.2.3"); err != nil || len(settings) != 1 || settings[0].UserAgent != "mxcert/1.2.3" || settings[0].Directory != "https://ca.example/directory" {
		t.Errorf("%+v, %v", settings, err)
	}
}
