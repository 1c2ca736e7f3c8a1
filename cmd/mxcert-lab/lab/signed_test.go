package lab_test

import (
	"testing"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestSignedLab: in a signed lab, TLSA records that are updated are secure at once, on all servers; names outside are known not to be.
func TestSignedLab(t *testing.T) {
	l := lab.New(t, lab.Options{Signed: true, Secondaries: 1})
	if err := l.World.Add("_25._tcp.mx.example.org. TLSA 3 1 1 00"); err != nil {
		t.Fatal(err)
	}
	r := resolve.New(l.NameServers())
	for name, records := range map[string]int{"_25._tcp.mx.example.org": 1, "_25._tcp.host7.example.org": 0, "_25._tcp.mail.example.com": 0, "elsewhere.test": 0} {
		if got := r.LookTLSA(t.Context(), name); got.State != resolve.Secure || len(got.Records) != records || got.Validator == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	served, err := r.ServedTLSA(t.Context(), "_25._tcp.mx.example.org")
	if err != nil || len(served.Answers) != 2 {
		t.Fatalf("%+v, %v", served, err)
	}
	for _, a := range served.Answers {
		if a.Signature != resolve.Signed || len(a.Records) != 1 {
			t.Errorf("%+v", a)
		}
	}
	if got := resolve.New(lab.New(t, lab.Options{}).NameServers()).LookTLSA(t.Context(), "_25._tcp.mx.example.org"); got.State != resolve.Insecure || got.Validator != "" {
		t.Errorf("in a lab that is not signed: %+v", got)
	}
}
