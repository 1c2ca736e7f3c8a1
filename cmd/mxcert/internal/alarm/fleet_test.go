package alarm

import (
	"testing"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/tell"
)

// A store that is away is told after a while; each value that is refused is a matter of its own.
func TestFleetMatters(t *testing.T) {
	t.Parallel()
	list := found(tell.Topic{Source: "fleet"}, []finding.Finding{
		finding.New("fleet-away", finding.Error, "the store cannot be asked: it is down"),
		finding.New("fleet-fault", finding.Error, "certificate/mx/ec256: forged"),
		finding.New("fleet-fault", finding.Error, "certificate/mx/rsa2048: forged"),
	})
	if len(list) != 3 || list[0].age != fleetPatience || list[1].age != 0 || list[0].Senders == "" || list[1].Senders == "" {
		t.Fatalf("%+v", list)
	}
	if list[1].key() == list[2].key() || list[1].Subject != "certificate/mx/ec256" {
		t.Errorf("two values are one matter: %q, %q", list[1].key(), list[2].key())
	}
}
