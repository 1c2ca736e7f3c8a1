package judges

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// kindsOfSenders are those of mxcert verify, in the order of the answers.
var kindsOfSenders = []string{"opportunistic", "pkix", "dane", "mta_sts", "requiretls"}

// senderNames are the senders that the finding senders-differ may name.
var senderNames = []string{"Postfix", "Exim", "mox", "plugin", "postfix-mta-sts-resolver", "postfix-tlspol"}

// document is what the table reads of verify --json.
type document struct {
	Hosts []struct {
		MX, Domain string
		Verdicts   map[string]judged
		Findings   []found
	}
	Domains []struct {
		Domain   string
		Verdicts map[string]judged
		Findings []found
	}
}

type judged struct {
	Result, Action string
	NotJudged      bool `json:"not_judged"`
}

// sign is the result as the table writes it.
func (j judged) sign() string {
	if j.NotJudged {
		return "?"
	}
	return map[string]string{"pass": "+", "fail": "!", "n/a": "="}[j.Result]
}

type found struct{ ID, Subject, Message string }

// ours asks mxcert about all rows of one time with one command, and returns its answers by mail domain.
func ours(ctx context.Context, h *world.Host, seats []*seat, later time.Duration) (map[string]answers, error) {
	argv := []string{"/usr/bin/mxcert", "verify", "--json", "--resolver", "127.0.0.1:53", "--roots", "/etc/judges/anchors.pem", "--timeout", "60s"}
	if later != 0 {
		argv = append(argv, "--at", seats[0].pki.now.Add(later).UTC().Format(time.RFC3339))
	}
	for _, s := range seats {
		if s.later == later {
			argv = append(argv, "--domain", s.mailDomain())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r, err := h.Run(ctx, argv...)
	if err != nil {
		return nil, err
	}
	var d document
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil {
		return nil, fmt.Errorf("mxcert verify: exit status %d, and no document: %w\n%.2000s%.2000s", r.Code, err, r.Stdout, r.Stderr)
	}
	return d.answers(), nil
}

func (d document) answers() map[string]answers {
	all := map[string]answers{}
	for _, domain := range d.Domains {
		var a answers
		for _, kind := range kindsOfSenders {
			v := domain.Verdicts[kind]
			a.Ours = strings.TrimSpace(a.Ours + " " + v.sign() + v.Action)
		}
		findings := domain.Findings
		for _, host := range d.Hosts {
			if host.Domain == domain.Domain {
				findings = append(findings, host.Findings...)
			}
		}
		a.Differ = differing(findings)
		all[domain.Domain] = a
	}
	return all
}

// differing are the senders that decide otherwise than mxcert says, for each kind.
func differing(findings []found) string {
	by := map[string][]string{}
	for _, f := range findings {
		if f.ID != "senders-differ" {
			continue
		}
		for _, name := range senderNames {
			if strings.Contains(f.Message, name) && !slices.Contains(by[f.Subject], name) {
				by[f.Subject] = append(by[f.Subject], name)
			}
		}
	}
	text := ""
	for _, kind := range kindsOfSenders {
		if by[kind] != nil {
			slices.Sort(by[kind])
			text = strings.TrimSpace(text + " " + kind + ": " + strings.Join(by[kind], " "))
		}
	}
	return text
}
