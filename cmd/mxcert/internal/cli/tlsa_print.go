package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/report"
)

// printTLSA prints what is known about TLSA records. If full is set, it prints whole records and all servers.
func printTLSA(out sheet, name string, t *report.TLSA, full bool) {
	if t == nil {
		return
	}
	text := "mode " + t.Mode
	if t.State != "" {
		text += ", " + t.State
	}
	if t.SignedUntil != nil {
		text += ", signatures until " + report.Minute(*t.SignedUntil)
	}
	if t.LookedAt != nil && time.Since(*t.LookedAt) > time.Minute {
		text += ", looked at " + report.Until(*t.LookedAt)
	}
	out.line("tlsa", "%s", text)
	for _, k := range t.Keys {
		if k.WaitingFor != "" {
			out.line("tlsa "+k.Key, "%s", waitText(k))
		}
	}
	if t.State == string(dane.Publishing) && t.Mode != string(dane.Publish) {
		out.line("next step", "`mxcert tlsa show %s` prints the records to publish", name)
	}
	for i, r := range t.Records {
		if i == 0 || t.Records[i-1].Owner != r.Owner {
			out.line("owner", "%s%s", r.Owner, serversOf(t.Records, r.Owner))
		}
		if full { // in one piece, so that it can be copied
			fmt.Fprintln(out, "    "+r.Record)
			out.text(0, "      %s", recordText(r))
			continue
		}
		out.text(2, "               %s: %s", shortRecord(r.Record), recordText(r))
	}
	if len(t.Ignored) > 0 {
		out.line("ignored", "%s", strings.Join(t.Ignored, ", "))
	}
}

// waitText says where a key type stands, until when, and why.
func waitText(k report.TLSAKey) string {
	text := k.State
	if k.Until != nil {
		text += fmt.Sprintf(" until %s (%s)", report.Minute(*k.Until), report.Until(*k.Until))
	}
	return text + ": " + shortRecords(k.WaitingFor)
}

// shortRecords leaves out the middle of records in a text.
func shortRecords(text string) string {
	return recordPattern.ReplaceAllStringFunc(text, shortRecord)
}

var recordPattern = regexp.MustCompile(`\b[0-3] [01] [0-2] [0-9a-f]{64,}`) //nolint:gochecknoglobals // a constant

// shortRecord leaves out the middle of a record's data.
func shortRecord(record string) string {
	const ends = 8
	at := strings.LastIndexByte(record, ' ') + 1
	if len(record)-at <= 2*ends+1 {
		return record
	}
	return record[:at+ends] + "…" + record[len(record)-ends:]
}

// recordText says whose a record is, what it fits, and which servers give it.
func recordText(r report.TLSARecord) string {
	text := "fits nothing here"
	if r.Matches != "" {
		text = r.Matches
	}
	if r.Ours {
		text += ", added by mxcert"
	}
	switch n := len(r.SeenBy) + len(r.Missing); {
	case n == 0:
	case len(r.SeenBy) == 0:
		text += ", on no server"
	case len(r.Missing) > 0:
		text += fmt.Sprintf(", on %d of %d servers, missing at %s", len(r.SeenBy), n, strings.Join(serverNames(r.Missing), ", "))
	}
	return text
}

// serversOf lists the servers that were asked about an owner, with the serial of the zone that each has.
func serversOf(records []report.TLSARecord, owner string) string {
	var all, list []string
	for _, r := range records {
		if r.Owner != owner {
			continue
		}
		for _, s := range slices.Concat(r.SeenBy, r.Missing) {
			if slices.Contains(all, s.Server+s.Address) {
				continue
			}
			all = append(all, s.Server+s.Address)
			text := serverNames([]report.SeenBy{s})[0]
			if s.Serial != 0 {
				text += fmt.Sprintf(" serial %d", s.Serial)
			}
			if s.Fault != "" {
				text += " (" + s.Fault + ")"
			}
			list = append(list, text)
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return ", asked: " + strings.Join(list, ", ")
}

func serverNames(servers []report.SeenBy) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = fmt.Sprintf("%s [%s]", s.Server, s.Address)
	}
	return list
}

// tlsaMark is what the table of status says about TLSA records, after the stage; "" if all is well.
func tlsaMark(t *report.TLSA) string {
	switch {
	case t.Fault():
		return ", TLSA fault"
	case t == nil || t.State == "" || t.State == string(dane.Steady):
		return ""
	}
	return ", TLSA " + t.State
}
