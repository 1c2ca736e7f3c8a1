package reported

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
)

// mostName limits the name of an organisation in a sentence, in bytes.
const mostName = 60

// message says what a sender met, what was in service then, and whether it is over.
func message(f report.Reported, kind tlsrpt.Kind, clean, compared bool) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s met %s %s %s (%d of %s): ", finding.Quote(f.Organization, mostName), f.Type, where(f), span(f.From, f.Until), f.Failed, sessions(f.Sessions))
	if in := generations(f); in != "" {
		fmt.Fprintf(&text, "that was %s; ", in)
	}
	text.WriteString(kind.Meaning)
	if f.Reason != "" {
		fmt.Fprintf(&text, `, it says "%s"`, f.Reason)
	}
	switch {
	case f.State == report.Fixed && clean:
		text.WriteString("; its later reports do not have it")
	case f.State == report.Fixed:
		fmt.Fprintf(&text, "; fixed since %s, when another certificate went into service", report.Minute(*f.Since))
	case f.State == report.Unclear:
		fmt.Fprintf(&text, "; at %s, within that time, another certificate went into service, and only the next report tells whether that helped", report.Minute(*f.Since))
	}
	if compared && !f.Ours && !kind.Policy && f.Host != "" {
		fmt.Fprintf(&text, "; %s is not this host", f.Host)
	}
	return text.String()
}

// where names the host or the policy.
func where(f report.Reported) string {
	switch {
	case f.Host != "":
		return "on " + f.Host
	case len(f.Addresses) > 0:
		return "on " + f.Addresses[0]
	case f.Domain != "":
		return "with " + f.Domain
	}
	return "somewhere"
}

// span writes the period of reports. A report about a day ends one second before midnight, or at midnight.
func span(from, until time.Time) string {
	return "from " + strings.TrimSuffix(report.Minute(from), " UTC") + " to " + report.Minute(until)
}

func sessions(n int64) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// mostGenerations limits those that a sentence names.
const mostGenerations = 3

// generations says which certificates were in service; "" if that is not known.
func generations(f report.Reported) string {
	if len(f.Generations) == 0 {
		return ""
	}
	var parts []string
	for i, g := range f.Generations {
		if i == mostGenerations {
			parts = append(parts, fmt.Sprintf("%d more", len(f.Generations)-i))
			break
		}
		text := "generation " + g.ID
		if g.NotAfter.Before(f.Until) {
			text += ", which expired at " + report.Minute(g.NotAfter)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", and ")
}

// hint is the next step; "" if there is nothing to do.
func hint(f report.Reported, kind tlsrpt.Kind, compared bool) string {
	host, domain, name := finding.Word(f.Host), finding.Word(f.Domain), finding.Word(f.Certificate)
	look := "mxcert verify"
	switch {
	case f.Host != "":
		look += " --host " + host
	case f.Domain != "":
		look += " --domain " + domain
	}
	switch {
	case f.State != report.Holds:
		return ""
	case kind.Policy && f.Policy == "sts" && f.Domain != "":
		return "mxcert verify --domain " + domain + " --for mta_sts shows what a sender finds"
	case kind.Policy && f.Domain != "":
		return "mxcert verify --domain " + domain + " --for dane shows what a validating resolver says"
	case compared && !f.Ours:
		return "ask who runs that host; `" + look + "` shows what senders meet there"
	case f.Type == "tlsa-invalid" && f.Certificate != "":
		return "mxcert tlsa check " + name + " compares the records with what is served"
	case f.Type == "dane-required" && f.Certificate != "":
		return "mxcert tlsa show " + name + " shows the records to publish"
	case f.Type == "certificate-expired" && f.Certificate != "":
		return "mxcert status " + name + " shows what is in service, mxcert renew " + name + " closes the gap"
	case f.Type == "certificate-host-mismatch" && f.Certificate != "":
		return "`" + look + "` shows the certificate; if it lacks the name, add it to domains of " + name
	}
	return "`" + look + "` shows what senders meet now"
}
