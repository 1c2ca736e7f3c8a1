package mtasts

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMemory tells what senders with an older policy do, day by day.
func TestMemory(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	policy := func(id string, mode Mode, days int, mx ...string) Found {
		return Found{Domain: "example.org", ID: id, Policy: &Policy{Mode: mode, MaxAge: time.Duration(days) * 24 * time.Hour, MX: mx}}
	}
	none, broken, unknown := Found{Domain: "example.org"}, Found{Domain: "example.org", ID: "1", Type: FetchError}, Found{Domain: "example.org", Type: FetchError, NotJudged: true}
	first := policy("1", Enforce, 10, "a.example.org")
	type look struct {
		day   int
		found Found
		want  string // severity and id, or "" for nothing
		says  string
	}
	for _, tt := range []struct {
		what  string
		looks []look
	}{
		{"nothing changes", []look{{0, first, "", ""}, {1, first, "", ""}, {30, first, "", ""}}},
		{"a new id with a new policy", []look{{0, first, "", ""}, {1, policy("2", Enforce, 10, "b.example.org"), "ok sts-policy-changed", "id from 1 to 2"}, {2, policy("2", Enforce, 10, "b.example.org"), "", ""}}},
		{"a new id with the old policy", []look{{0, first, "", ""}, {1, policy("2", Enforce, 10, "a.example.org"), "", ""}}},
		{"the order of patterns does not matter", []look{{0, policy("1", Enforce, 10, "a.example.org", "b.example.org"), "", ""}, {1, policy("1", Enforce, 10, "b.example.org", "a.example.org"), "", ""}}},
		{"another host under the old id", []look{{0, first, "", ""}, {1, policy("1", Enforce, 10, "b.example.org"), "error sts-id-unchanged", "until 2026-12-09 12:00 UTC"},
			{5, policy("1", Enforce, 10, "b.example.org"), "error sts-id-unchanged", "mx a.example.org"}, {11, policy("1", Enforce, 10, "b.example.org"), "", ""}}},
		{"the new id comes later", []look{{0, first, "", ""}, {1, policy("1", Enforce, 10, "b.example.org"), "error sts-id-unchanged", ""}, {2, policy("2", Enforce, 10, "b.example.org"), "", ""}}},
		{"the old policy comes back", []look{{0, first, "", ""}, {1, policy("1", Testing, 10, "a.example.org"), "error sts-id-unchanged", ""}, {2, first, "warning sts-id-unchanged", "mode testing"}}},
		{"the old wildcard permits the new host", []look{{0, policy("1", Enforce, 10, "*.example.org"), "", ""}, {1, policy("1", Enforce, 10, "b.example.org"), "warning sts-id-unchanged", ""}}},
		{"stricter under the old id", []look{{0, policy("1", Testing, 10, "a.example.org"), "", ""}, {1, first, "warning sts-id-unchanged", "mode testing"}}},
		{"the policy is removed", []look{{0, first, "", ""}, {1, none, "warning sts-policy-cached", "mode none and a new id"}, {9, none, "warning sts-policy-cached", "until 2026-12-09"}, {11, none, "", ""}}},
		{"the policy host fails", []look{{0, first, "", ""}, {1, broken, "warning sts-policy-cached", "serve the policy again"}, {2, first, "", ""}}},
		{"DNS fails", []look{{0, first, "", ""}, {1, unknown, "", ""}, {2, policy("1", Enforce, 10, "b.example.org"), "error sts-id-unchanged", ""}}},
		{"mode none, then nothing", []look{{0, first, "", ""}, {1, policy("2", None, 10), "ok sts-policy-changed", ""}, {2, none, "", ""}}},
		{"there never was one", []look{{0, none, "", ""}, {1, broken, "", ""}}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			stored := []byte("{}")
			for _, l := range tt.looks {
				var memory Memory // as after a restart
				err := json.Unmarshal(stored, &memory)
				if err != nil {
					t.Fatal(err)
				}
				got := memory.Note(l.found, start.Add(time.Duration(l.day)*24*time.Hour))
				want := []string{l.want}
				if l.want == "" {
					want = nil
				}
				if !slices.Equal(ids(got), want) || len(got) > 0 && !strings.Contains(got[0].Message+got[0].Hint, l.says) {
					t.Errorf("day %d: %+v, want %q that says %q", l.day, got, l.want, l.says)
				}
				if stored, err = json.Marshal(memory); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestMemoryIsBounded: whoever changes the policy at each look fills nothing.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var memory Memory
	now := time.Now()
	for i := range 100 {
		found := Found{Domain: "example.org", ID: "1", Policy: &Policy{Mode: Enforce, MaxAge: longest - time.Duration(i)*time.Second, MX: []string{"a.example.org"}}}
		if got := memory.Note(found, now); len(got) > mostOlder {
			t.Fatalf("%d findings", len(got))
		}
	}
	memory.Keep([]string{"example.com"})
	if len(memory.Domains) != 0 {
		t.Errorf("kept %v", memory.Domains)
	}
}

// The owner of a domain does not decide how large the memory becomes. A record of all domains has at most 1 MiB.
func TestMemoryOfLargePolicies(t *testing.T) {
	t.Parallel()
	var m Memory
	policy := func(change, hosts int) Found {
		p := Policy{Mode: Enforce, MaxAge: longest}
		for i := range hosts {
			p.MX = append(p.MX, fmt.Sprintf("mx%d-%d.example.org", change, i))
		}
		return Found{Domain: "example.org", ID: "1", Policy: &p}
	}
	at := time.Now()
	for _, hosts := range []int{4000, 50} {
		for change := range 20 { // under the same id, so that older policies are remembered
			at = at.Add(time.Hour)
			m.Note(policy(change, hosts), at)
		}
		text, err := json.MarshalIndent(m, "", "  ")
		if err != nil || len(text) > 64<<10 {
			t.Errorf("%d hosts: %d bytes, %v", hosts, len(text), err)
		}
		if _, kept := m.Domains["example.org"]; kept != (hosts == 50) {
			t.Errorf("%d hosts: remembered: %t", hosts, kept)
		}
	}
}
