package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/world"
)

// askJudges asks Unbound, by its daemon and its library, and delv behind a resolver that does not validate.
func askJudges(t *testing.T, w *world.World, rows []*stateRow, anchor string) {
	t.Helper()
	daemon := digAll(t, w.Sender, rows)
	unsure := slices.DeleteFunc(slices.Clone(rows), func(r *stateRow) bool { return daemon[r.question()] == "secure" || daemon[r.question()] == "insecure" })
	library := each(t, w.Sender, unsure, "unbound-host -v -C /etc/world/unbound.conf -t $3 $2")
	delv := each(t, w.Sender, rows, "delv +cd -a "+anchor+" @"+world.IteratorResolver+" $2 $3")
	for _, r := range rows {
		r.unbound, r.delv = daemon[r.question()], stateOfDelv(delv[r])
		if said, asked := library[r]; asked && r.unbound == "SERVFAIL" {
			r.unbound = stateOfUnbound(said)
		}
	}
}

func (r *stateRow) question() string { return r.name + " " + r.kind }

// each runs a program for each question, several at a time: $2 is the name and $3 the type. It returns what they print.
func each(t *testing.T, h *world.Host, rows []*stateRow, program string) map[*stateRow]string {
	t.Helper()
	var input strings.Builder
	for i, r := range rows {
		fmt.Fprintf(&input, "%d %s %s\n", i, r.name, r.kind)
	}
	const directory = "/tmp/judges"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := h.RunInput(ctx, input.String(), "sh", "-c", "rm -rf "+directory+"; mkdir "+directory+"; exec xargs -P 6 -L 1 sh -c '"+program+" >"+directory+"/$1 2>&1' judge")
	if err != nil {
		t.Fatal(err, out.Stderr)
	}
	said := map[*stateRow]string{}
	for i, r := range rows {
		text, err := h.Read(fmt.Sprintf("%s/%d", directory, i))
		if err != nil {
			t.Fatal(err)
		}
		said[r] = text
	}
	return said
}

var digAnswer = regexp.MustCompile(`status: (\w+)[^;]*;; flags:([a-z ]*);[^?]*?QUESTION SECTION:\n;(\S+)\.\s+IN\s+(\w+)`)

// digAll asks the daemon, and returns by question secure, insecure or SERVFAIL.
func digAll(t *testing.T, h *world.Host, rows []*stateRow) map[string]string {
	t.Helper()
	var input strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&input, "%s %s\n", r.name, r.kind)
	}
	const program = "mkdir -p /tmp/dig; cd /tmp/dig; rm -f *; split -n r/8 - dig.; for f in dig.*; do dig +noall +comments +question +dnssec +tries=1 +time=20 -f $f >said.$f & done; wait; cat said.*"
	out, err := h.RunInput(t.Context(), input.String(), "sh", "-c", program)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, m := range digAnswer.FindAllStringSubmatch(out.Stdout, -1) {
		state := "insecure"
		if strings.Contains(m[2]+" ", " ad ") {
			state = "secure"
		}
		if m[1] != "NOERROR" && m[1] != "NXDOMAIN" {
			state = m[1]
		}
		states[m[3]+" "+m[4]] = state
	}
	return states
}

var unboundState = regexp.MustCompile(`(?m)\((secure|insecure|BOGUS|error)[^()]*(?:\([^()]*\))?\)$`)

// stateOfUnbound reads what unbound-host says. It tells bogus from error without the bit CD.
func stateOfUnbound(said string) string {
	m := unboundState.FindAllStringSubmatch(said, -1)
	if m == nil {
		return "unbound-host: " + said
	}
	return strings.ToLower(m[len(m)-1][1])
}

// stateOfDelv reads the weakest state of what delv shows.
func stateOfDelv(out string) string {
	switch {
	case regexp.MustCompile(`(?m)^;; resolution failed: (broken trust chain|no valid|insecurity proof failed|RRSIG)`).MatchString(out):
		return "bogus"
	case strings.Contains(out, "resolution failed: ncache"):
	case strings.Contains(out, "resolution failed"), strings.Contains(out, "timed out"):
		return "error"
	}
	switch {
	case strings.Contains(out, "unsigned answer"):
		return "insecure"
	case strings.Contains(out, "fully validated"):
		return "secure"
	}
	return "delv: " + out
}
