package doctor

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/ct/cttest"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"
)

// ctFound returns what doctor says about the logs, in lines.
func (h *host) ctFound() (lines string) {
	h.t.Helper()
	for _, f := range h.doctor().transparency(h.t.Context()) {
		lines += fmt.Sprintf("%s %s: %s -> %s\n", f.Severity, f.Subject, f.Message, f.Hint)
	}
	return lines
}

func (h *host) saysCT(want ...string) {
	h.t.Helper()
	found := h.ctFound()
	for _, text := range want {
		if !strings.Contains(found, text) {
			h.t.Errorf("%q is not in\n%s", text, found)
		}
	}
}

// remember changes what the daemon has found in the logs.
func (h *host) remember(change func(*ct.Memory)) {
	h.t.Helper()
	_, err := ct.Update(h.t.Context(), h.store(), change)
	h.check(err)
}

// An unknown certificate: the next step is a CAA record that names the account, unless there is one.
func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Extra: "ct: {watch: true}\n"})
	h.edit(h.CA.DirectoryURL(), "https://acme-v02.api.letsencrypt.org/directory")
	h.check(os.MkdirAll(h.Path("state"), 0o700))
	h.saysCT("ok : the first look at the logs has not ended; certspotter (without a token) is asked")
	name := h.doctor().Certificates[0].Names[0]
	h.remember(func(m *ct.Memory) {
		m.Learned[name] = 1
		m.Unknown = append(m.Unknown, ct.Unknown{Entry: ct.Entry{Serial: "04ab", SPKI: strings.Repeat("0", 64), Issuer: "CN=Evil", Names: []string{name}, NotAfter: time.Now().Add(time.Hour)}, Seen: time.Now()})
	})
	h.saysCT("warning "+name+": a certificate for "+name, `issuer "CN=Evil", serial 04ab`, "CAA records with accounturi; mxcert account shows")
	h.check(h.store().SaveAccount(state.Account{Directory: "https://acme-v02.api.letsencrypt.org/directory", URL: "https://le.example/acct/7"}))
	h.saysCT(`let only your account order (RFC 8657): ` + name + `. CAA 0 issue "letsencrypt.org; accounturi=https://le.example/acct/7"`)
	h.check(h.World.Add(name + `. CAA 0 issue "letsencrypt.org"`))
	h.saysCT("let only your account order")
	h.check(h.World.Replace(name + `. CAA 0 issue "letsencrypt.org; accounturi=https://le.example/acct/7"`))
	h.saysCT("name an account already: if that is yours, ask the CA")
}

// Sources that do not answer, or cannot be asked in time, and what a token changes.
func TestSourcesOfTransparency(t *testing.T) {
	t.Parallel()
	h := desert(t)
	var domains []string
	for i := range 95 {
		domains = append(domains, fmt.Sprintf("mx.example%d.org", i))
	}
	h.edit("hooks:", "ct: {watch: true, interval: 1h, sources: [certspotter]}\nhooks:")
	h.check(os.MkdirAll(h.Path("state"), 0o700))
	h.saysCT("ok : the first look at the logs has not ended")
	h.edit("domains: [mx.example.org]", "domains: ["+strings.Join(domains, ", ")+"]")
	h.saysCT("warning certspotter: certspotter can be asked about all names once in 1h3m20s only, and ct.interval is 1h", `{token: "cred:ct"}`)
	h.edit("sources: [certspotter]", `sources: [{certspotter: {token: "cred:ct"}}]`)
	h.remember(func(m *ct.Memory) { m.Learned["mx.example0.org"] = 1 })
	h.saysCT("ok : no unknown certificate is in the logs, as far as certspotter knows")
	h.remember(func(m *ct.Memory) {
		m.Failing["certspotter"] = ct.Failing{Since: time.Now(), Text: "Cert Spotter answered 401", Token: true}
	})
	h.saysCT("warning certspotter: mxcert has not been able to look for unknown certificates", "put a valid token")
	h.remember(func(m *ct.Memory) {
		m.Failing["certspotter"] = ct.Failing{Since: time.Now(), Text: "Cert Spotter answered 500"}
	})
	h.saysCT("ok : no unknown certificate is in the logs, as far as was known before; certspotter gave no answer")
	h.remember(func(m *ct.Memory) { m.Learned = map[string]int64{} })
	h.saysCT("warning certspotter: nobody has looked for unknown certificates yet", "Cert Spotter answered 500", "mxcert ct check asks now")
}

// A log list that is old or broken.
func TestLogList(t *testing.T) {
	t.Parallel()
	h := desert(t)
	list := h.Path("list.json")
	h.edit("hooks:", "ct: {log_list: "+list+"}\nhooks:")
	h.saysCT("warning ct.log_list: ct.log_list cannot be read", "no such file", "https://www.gstatic.com/")
	text := cttest.LogList(t, cttest.Listed{Log: cttest.NewLog(t, "one")})
	h.check(os.WriteFile(list, text, 0o600))
	h.saysCT("ok : the log list")
	h.check(os.Chtimes(list, time.Now(), time.Now().Add(-71*24*time.Hour)))
	h.saysCT("warning ct.log_list: the log list of ct.log_list is of")
	h.check(os.WriteFile(list, []byte(strings.Replace(string(text), "{", `{"log_list_timestamp":"2020-01-01T00:00:00Z",`, 1)), 0o600))
	h.saysCT("is of 2020-01-01", "SCTs of newer logs")
	h.check(os.WriteFile(list, []byte("<html>"), 0o600))
	h.saysCT(string(finding.Warning), "no log list in JSON")
}
