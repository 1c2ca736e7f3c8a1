package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// printVerify prints the answers first, one for each domain or host, then what each address gets from each kind of sender, and then what
// was found.
func printVerify(out sheet, r verifyReport) {
	if len(r.Hosts)+len(r.Domains) == 0 {
		out.text(2, "no endpoint configured, so mxcert cannot tell whether the certificate is served")
		return
	}
	if r.At != nil {
		out.text(2, "judged for %s", report.Second(*r.At))
	}
	for _, d := range r.Domains {
		out.text(2, "%s: %s", d.Domain, cmp.Or(oneAnswer(d.Verdicts), answerOf([]map[verdict.Kind]verdictReport{d.Verdicts})))
	}
	for _, group := range byMX(r.Hosts) {
		if h := group[0]; h.Domain == "" {
			out.text(2, "%s%s: %s", foreign(h.MX), r.portOf(h), answerOf(verdictsOf(group)))
		}
	}
	for _, d := range r.Domains {
		fmt.Fprintln(out)
		printDomain(out, d)
	}
	printVerdictTable(out, r)
	printDetails(out, r)
	printCommands(out, r.Commands)
}

// portOf names the port of a host that was looked at at several ports.
func (r verifyReport) portOf(h hostReport) string {
	if slices.ContainsFunc(r.Hosts, func(other hostReport) bool {
		return other.MX == h.MX && other.Domain == h.Domain && other.Port != h.Port
	}) {
		return fmt.Sprintf(" port %d", h.Port)
	}
	return ""
}

// domainOf names the domain of a host that is one of several domains, whose senders may decide otherwise.
func (r verifyReport) domainOf(h hostReport) string {
	if h.Domain == "" || len(r.Domains) < 2 {
		return ""
	}
	return " for " + foreign(h.Domain)
}

// oneAnswer is the answer if nobody delivers, for one reason; otherwise "".
func oneAnswer(verdicts map[verdict.Kind]verdictReport) string {
	first := verdicts[verdict.Kinds[0]]
	for _, kind := range verdict.Kinds {
		if v := verdicts[kind]; v.Result == verdict.Pass || v.Result != first.Result || v.Reason != first.Reason {
			return ""
		}
	}
	return cellOf(first) + " for every sender: " + first.Reason
}

// answerOf says in a line which kinds of senders deliver: the worst first. Of several addresses of a host, each may decide otherwise.
func answerOf(all []map[verdict.Kind]verdictReport) string {
	words := []string{"fail", "pass", "not judged", "n/a"}
	lists := map[string][]string{}
	for _, kind := range verdict.Kinds {
		word, n := words[len(words)-1], 0
		for _, verdicts := range all {
			switch mine := cellOf(verdicts[kind]); {
			case mine == word:
				n++
			case slices.Index(words, mine) < slices.Index(words, word):
				word, n = mine, 1
			}
		}
		name := string(kind)
		if n < len(all) {
			name += fmt.Sprintf(" (%d of %d addresses)", n, len(all))
		}
		lists[word] = append(lists[word], name)
	}
	var parts []string
	for _, word := range words {
		if len(lists[word]) > 0 {
			parts = append(parts, word+" "+strings.Join(lists[word], ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// cellOf returns a verdict in a word or two.
func cellOf(v verdictReport) string {
	if v.NotJudged {
		return "not judged"
	}
	return string(v.Result)
}

func verdictsOf(hosts []hostReport) (all []map[verdict.Kind]verdictReport) {
	for _, h := range hosts {
		all = append(all, h.Verdicts)
	}
	return all
}

// byMX groups the addresses of the same host and port, which are next to each other.
func byMX(hosts []hostReport) (groups [][]hostReport) {
	for i, h := range hosts {
		if i > 0 && hosts[i-1].MX == h.MX && hosts[i-1].Domain == h.Domain && hosts[i-1].Port == h.Port {
			groups[len(groups)-1] = append(groups[len(groups)-1], h)
		} else {
			groups = append(groups, []hostReport{h})
		}
	}
	return groups
}

// printDomain prints what DNS and the policy say about a domain.
func printDomain(out sheet, d domainReport) {
	fmt.Fprintf(out, "%s\n", d.Domain)
	out.line("MX", "%s", mxText(d))
	out.line("DNSSEC", "%s", dnssecText(d))
	out.line("MTA-STS", "%s", stsText(d.STS))
	for i, l := range verdictLines(d.Verdicts) {
		if d.Verdicts[verdict.Kinds[i]].Result != verdict.Pass { // why mail is delivered is said of the hosts
			out.line(l.what, "%s", l.text)
		}
	}
	printFindings(out, d.Findings)
}

func mxText(d domainReport) string {
	if len(d.MX) == 0 {
		return "none"
	}
	list := make([]string, len(d.MX))
	for i, mx := range d.MX {
		list[i] = fmt.Sprintf("%s (%d)", cmp.Or(foreign(mx.Host), `"." (null MX)`), mx.Preference)
	}
	return strings.Join(list, ", ")
}

func dnssecText(d domainReport) string {
	switch {
	case d.Validator != "":
		return fmt.Sprintf("the MX records are %s; %s validated", d.DNSSEC, d.Validator)
	case d.DNSSEC == resolve.Insecure:
		return "not judged: no resolver that validates and whose word counts was asked"
	}
	return fmt.Sprintf("the answer about MX records is %s", d.DNSSEC)
}

func stsText(s stsReport) string {
	if s.Mode == "" {
		return cmp.Or(s.Reason, "no policy")
	}
	list := make([]string, len(s.MX))
	for i, pattern := range s.MX {
		list[i] = foreign(pattern)
	}
	return fmt.Sprintf("%s, id %s, max_age %d, mx %s", s.Mode, finding.Quoted(s.ID, finding.MostQuoted), s.MaxAge, strings.Join(list, " "))
}

// foreign returns a name of somebody else: as it is if it is plain, else in quotation marks.
func foreign(name string) string {
	if name == "" || !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._*", r))
	}) {
		return name
	}
	return finding.Quoted(name, finding.MostQuoted)
}

func printFindings(out sheet, findings []finding.Finding) {
	for _, l := range findingLines(findings) {
		out.line(l.what, "%s", l.text)
	}
}

// printVerdictTable prints a line for each address: what each kind of sender decides there.
func printVerdictTable(out sheet, r verifyReport) {
	width := 0
	for _, h := range r.Hosts {
		width = max(width, utf8.RuneCountInString(addressCell(h)))
	}
	head := ""
	for _, kind := range verdict.Kinds {
		head += "  " + string(kind)
	}
	width = min(width, 80-len(head)-2)
	unknown := false
	for _, group := range byMX(r.Hosts) {
		fmt.Fprintln(out)
		out.text(2, "%s, port %d%s", foreign(group[0].MX), group[0].Port, r.domainOf(group[0]))
		fmt.Fprintf(out, "  %s%s\n", strings.Repeat(" ", width), head)
		for _, h := range group {
			unknown = printVerdictRow(out, h, width) || unknown
		}
	}
	if unknown {
		out.text(2, "?  not judged; the reason is below")
	}
}

// addressCell is what stands for an address in the table.
func addressCell(h hostReport) string { return cmp.Or(h.Address, "no address") }

// printVerdictRow prints one line of the table, and reports whether a verdict in it is not known.
func printVerdictRow(out sheet, h hostReport, width int) (unknown bool) {
	address := addressCell(h)
	if n := utf8.RuneCountInString(address); n > width {
		fmt.Fprintf(out, "  %s\n  %s", address, strings.Repeat(" ", width))
	} else {
		fmt.Fprintf(out, "  %s%s", address, strings.Repeat(" ", width-n))
	}
	for i, kind := range verdict.Kinds {
		cell, colour := string(h.Verdicts[kind].Result), ""
		switch {
		case h.Verdicts[kind].NotJudged:
			cell, unknown = "?", true
		case cell == string(verdict.Fail):
			colour = red
		case cell == string(verdict.Pass):
			colour = green
		}
		fmt.Fprint(out, "  ")
		if colour == "" {
			fmt.Fprint(out, cell)
		} else {
			out.paint(cell, colour)
		}
		if i < len(verdict.Kinds)-1 {
			fmt.Fprint(out, strings.Repeat(" ", len(kind)-len(cell)))
		}
	}
	fmt.Fprintln(out)
	return unknown
}

// printCommands prints commands, each in a line that a shell can read.
func printCommands(out sheet, commands []string) {
	if len(commands) == 0 {
		return
	}
	out.text(0, "\nThe same with other tools:\n")
	for _, command := range commands {
		fmt.Fprintln(out, command)
	}
}
