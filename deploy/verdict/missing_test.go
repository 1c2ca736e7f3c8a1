package verdict_test

import (
	"testing"

	"mxcert/acme/resolve"
	"mxcert/deploy/verdict"
)

// A domain that does not exist receives no mail from anybody.
func TestDomainThatDoesNotExist(t *testing.T) {
	t.Parallel()
	mx := resolve.Set[resolve.MX]{Answer: resolve.Answer{Name: "nosuch.example", State: resolve.Secure, Missing: true}}
	for kind, v := range verdict.Domain("nosuch.example", mx, nil) {
		if v.Result != verdict.Fail || v.Action != verdict.Bounce {
			t.Errorf("%s: %+v", kind, v)
		}
	}
}
