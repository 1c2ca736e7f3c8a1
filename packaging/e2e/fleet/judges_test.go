package fleet

import (
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// The judges of the fleet find what they are there for.
func TestJudges(t *testing.T) {
	t.Parallel()
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	one := &order{id: "1", made: at(0), finalized: at(2), last: at(4)}
	for what, test := range map[string]struct {
		second *order
		lost   int
		good   bool
	}{
		"one after the other":         {&order{id: "2", made: at(5), finalized: at(6), last: at(7)}, 0, true},
		"one while the other is made": {&order{id: "2", made: at(1), finalized: at(6), last: at(7)}, 0, false},
		"one before the answer":       {&order{id: "2", made: at(3), finalized: at(6), last: at(7)}, 0, false},
		"one that was given up":       {&order{id: "2", made: at(5), last: at(5)}, 1, true},
	} {
		if lost, err := alone([]*order{one, test.second}); lost != test.lost || (err == nil) != test.good {
			t.Errorf("%s: %d lost, %v", what, lost, err)
		}
	}

	rank := func(serial string) (int, bool) {
		n, ok := map[string]int{"a": 0, "b": 1, "c": 2}[serial]
		return n, ok
	}
	for served, good := range map[string]bool{"saabc": true, "sac": true, "aba": false, "abs": false, "s": true, "cb": false} {
		var list []mailhost.Session
		for _, serial := range served {
			list = append(list, mailhost.Session{Serial: string(serial)}, mailhost.Session{})
		}
		if n, err := forward(list, rank); n != len(served) || (err == nil) != good {
			t.Errorf("%s: %d sessions, %v", served, n, err)
		}
	}

	looks := []look{{at(0), ""}, {at(1), "3 1 1 a"}, {at(10), "3 1 1 a; 3 1 1 b"}, {at(20), "3 1 1 b"}}
	shown := func(seconds int, serial string) []mailhost.Session {
		return []mailhost.Session{{Serial: serial, Secured: at(seconds)}, {}}
	}
	for what, test := range map[string]struct {
		sessions []mailhost.Session
		good     bool
	}{
		"the only key": {shown(9, "a"), true}, "the next one too soon": {shown(11, "b"), false}, "the next one": {shown(13, "b"), true},
		"the old one while its record is held": {shown(20, "a"), true}, "the old one later": {shown(21, "a"), false}, "another": {shown(5, "c"), false},
	} {
		if n, errs := refusals(looks, test.sessions, func(serial string) string { return serial }); n == 0 || (errs == nil) != test.good {
			t.Errorf("%s: %d, %v", what, n, errs)
		}
	}
}
