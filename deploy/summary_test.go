package deploy_test

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/deploy"
)

// TestSummaryTravels: a plan that another process keeps answers as it would there.
func TestSummaryTravels(t *testing.T) {
	now := time.Now()
	ca := issuer.New(t)
	live, next := ca.Issue(t, 48*time.Hour, "mx.example.org"), ca.Issue(t, 24*time.Hour, "mx.example.org")
	for what, prepare := range map[string]func(target deploy.Target){
		"nothing was there": func(deploy.Target) {},
		"longer":            func(target deploy.Target) { apply(t, live, target) },
		"half a pair": func(target deploy.Target) {
			apply(t, live, target)
			if err := os.Remove(target.PrivateKey); err != nil {
				t.Fatal(err)
			}
		},
		"nothing to do": func(target deploy.Target) { apply(t, next, target) },
	} {
		target := pair(t.TempDir())
		prepare(target)
		here := plan(t, next, target).Summary()
		text, err := json.Marshal(here)
		if err != nil {
			t.Fatal(err)
		}
		var there deploy.Summary
		if err := json.Unmarshal(text, &there); err != nil {
			t.Fatal(err)
		}
		if there.Empty() != here.Empty() || there.ContentChanges() != here.ContentChanges() || !reflect.DeepEqual(there.Changes, here.Changes) {
			t.Errorf("%s: %+v became %+v", what, here, there)
		}
		for _, at := range []time.Time{now, now.Add(72 * time.Hour)} {
			if !reflect.DeepEqual(there.Shortens(at), here.Shortens(at)) || !reflect.DeepEqual(there.Revertible(at), here.Revertible(at)) {
				t.Errorf("%s: %v, %v became %v, %v", what, here.Shortens(at), here.Revertible(at), there.Shortens(at), there.Revertible(at))
			}
		}
	}
	target := pair(t.TempDir())
	apply(t, live, target)
	s := plan(t, next, target).Summary()
	if s.Shortens(now) == nil || s.Shortens(now.Add(72*time.Hour)) != nil {
		t.Error("an expired certificate must not be in the way, a valid one must")
	}
	if s.Revertible(now) != nil || s.Revertible(now.Add(72*time.Hour)) == nil {
		t.Error("a valid certificate is worth going back to, an expired one is not")
	}
}
