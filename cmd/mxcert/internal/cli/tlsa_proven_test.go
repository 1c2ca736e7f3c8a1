package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// While a new certificate is being deployed, its key is current as far as the files are concerned, and senders still meet the one before.
func TestRecordOfTheProvenKeyStays(t *testing.T) {
	t.Parallel()
	proven, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	l := &tlsaLook{TLSALook: &pass.TLSALook{TLSASight: report.TLSASight{State: &dane.State{}}}}
	l.State.Keys = map[bundle.KeyType]*dane.Roll{bundle.EC256: {Current: proven, Retired: []dane.Retired{{SPKI: other}}}, bundle.RSA2048: nil}
	if !l.proven("3 1 1 "+proven) || l.proven("3 1 1 "+other) || l.proven("2 1 1 "+proven) {
		t.Error("the record of the key that was last proven must stay, and no other")
	}
}

// The record of the key in service is to be published, also if mxcert remembers nothing about records and has issued a certificate with another
// key that is not in service.
func TestTLSAShowNamesTheKeyInService(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	old := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].SPKI
	issued := h.report(report.CodeOK, "renew", "--new-key").Certificates[0].Keys[0].SPKI
	lineage := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := lineage.Load()
	h.check(err)
	slot := record.Slot(bundle.EC256)
	slot.Served, slot.Previous = slot.Previous, ""
	h.check(lineage.Save(record))
	h.check(os.Remove(lineage.TLSAFile()))
	h.records("3 1 1 " + old)
	for format, removal := range map[string]string{"zone": "can be removed", "nsupdate": "update delete"} {
		shown := h.run("tlsa", "show", "--format", format).stdout
		for _, key := range []string{old, issued} {
			if line := fmt.Sprintf(" 2 IN TLSA 3 1 1 %s\n", key); !strings.Contains(shown, line) || strings.Contains(shown, removal) {
				t.Errorf("%s: want %q, and no removal:\n%s", format, line, shown)
			}
		}
	}
}
