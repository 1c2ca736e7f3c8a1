package page_test

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
)

// elements parses a page as a browser does, and lists its elements in order.
func elements(t testing.TB, text []byte) (list []*html.Node) {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			list = append(list, n)
		}
	}
	return list
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func child(n *html.Node, tag string) *html.Node {
	for c := range n.ChildNodes() {
		if c.Data == tag {
			return c
		}
	}
	return nil
}

// TestStructure: a page runs nothing and loads nothing, and says to a screen reader what it shows.
func TestStructure(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]page.Sight{"example": example(), "nothing": {Host: "h", At: at}, "many": many(300)} {
		level, ids, refer, seen := 0, map[string]bool{}, []string{}, map[string]int{}
		for _, n := range elements(t, render(t, s)) {
			seen[n.Data]++
			switch n.Data {
			case "script", "link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "image", "use", "a":
				t.Errorf("%s: the page has the element %s", name, n.Data)
			case "h1", "h2", "h3", "h4":
				if now := int(n.Data[1] - '0'); now > level+1 {
					t.Errorf("%s: heading %s follows one of level %d", name, n.Data, level)
				} else {
					level = now
				}
			case "table":
				if child(n, "caption") == nil || child(n, "thead") == nil {
					t.Errorf("%s: a table has no caption or no head", name)
				}
			case "th":
				if attr(n, "scope") == "" {
					t.Errorf("%s: a th has no scope", name)
				}
			case "svg":
				if child(n, "title") == nil || child(n, "desc") == nil || attr(n, "role") != "img" {
					t.Errorf("%s: a bar does not say what it is", name)
				}
			case "html":
				if attr(n, "lang") != "en" {
					t.Errorf("%s: no language", name)
				}
			}
			for _, a := range n.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "src", a.Key == "href", a.Key == "srcset":
					t.Errorf("%s: %s has the attribute %s", name, n.Data, a.Key)
				case a.Key == "id" && ids[a.Val]:
					t.Errorf("%s: the id %s is there twice", name, a.Val)
				case a.Key == "id":
					ids[a.Val] = true
				case a.Key == "aria-labelledby":
					refer = append(refer, strings.Fields(a.Val)...)
				case a.Key == "http-equiv" && !strings.HasPrefix(attr(n, "content"), "default-src 'none'; style-src 'unsafe-inline'"):
					t.Errorf("%s: the policy is %s", name, attr(n, "content"))
				}
			}
		}
		for _, id := range refer {
			if !ids[id] {
				t.Errorf("%s: something is labelled by %s, which does not exist", name, id)
			}
		}
		for _, tag := range []string{"h1", "title", "main", "header", "footer", "style"} {
			if seen[tag] < 1 || seen[tag] > 1 && tag != "title" { // bars have titles, too
				t.Errorf("%s: %d elements %s", name, seen[tag], tag)
			}
		}
	}
}

// hostile is a host on which every foreign text is the same.
func hostile(text string) page.Sight {
	s := example()
	s.Host, s.Release = text, text
	s.Fleet.Reason, s.Fleet.Hint = text, text
	for i := range s.Certificates {
		c := &s.Certificates[i]
		r := &c.Report
		r.Name = text
		for j := range r.Names {
			r.Names[j] = text
		}
		for j := range r.Keys {
			r.Keys[j].Key, r.Keys[j].Serial, r.Keys[j].Issuer = text, text, text
		}
		for j := range r.Endpoints {
			e := &r.Endpoints[j]
			e.Key, e.Serial, e.Error, e.Address = text, text, text, text
		}
		r.Missing, r.Leaving, r.Warnings = []string{text}, []string{text}, []string{text}
		for j := range r.LeftOut {
			r.LeftOut[j].Name, r.LeftOut[j].Reason = text, text
		}
		for j := range r.Awaited {
			r.Awaited[j].Name, r.Awaited[j].Reason = text, text
		}
		r.Error = &report.Error{Message: text, Hint: text}
		if r.Senders != nil {
			r.Senders.Domains = []string{text}
			r.Senders.Findings = []finding.Finding{{ID: "x", Severity: finding.Warning, Subject: text, Message: text, Hint: text}}
			for j := range r.Senders.Hosts {
				h := &r.Senders.Hosts[j]
				h.MX, h.Address, h.Verdicts = text, text, map[string]report.SenderVerdict{"dane": {Result: "fail", Reason: text}}
			}
		}
		if r.TLSA != nil {
			r.TLSA.Mode, r.TLSA.WaitingFor = text, text
			for j := range r.TLSA.Owners {
				r.TLSA.Owners[j].Host, r.TLSA.Owners[j].Reason = text, text
			}
			for j := range r.TLSA.Records {
				r.TLSA.Records[j].Record, r.TLSA.Records[j].Matches = text, text
			}
		}
		c.Events = []state.Event{{At: day(-1), Event: text, Serial: text, Message: text}}
	}
	s.Alarms = nil
	s.Told = page.Told{
		Alarms:      []report.Alarm{{ID: text, Severity: "error", Certificates: []string{text}, Since: day(-1), Told: day(-1), Title: text, What: text, Senders: text, Next: text}},
		Undelivered: []report.Undelivered{{Channel: text, Since: day(-1), Error: text}},
	}
	s.Finish()
	return s
}

// shape is the elements of a page with their attributes' names.
func shape(t testing.TB, text []byte) string {
	var b strings.Builder
	for _, n := range elements(t, text) {
		b.WriteString(n.Data)
		for _, a := range n.Attr {
			b.WriteString(" " + a.Key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// FuzzHostile: whatever a peer, a name or a CA says, the page keeps its shape, and no character changes the direction of writing.
func FuzzHostile(f *testing.F) {
	for _, seed := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title></style><b>`, "\u202egnp.exe\u2066", "a\x00b\x1b[31m\r\n", "'\"&<>`", `<!--`, `]]>`, "\xff\xfe", strings.Repeat("x", 5000), `<svg><desc><h1>`, "https://example.org/\u200b"} {
		f.Add(seed)
	}
	want := shape(f, render(f, hostile("xplain")))
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "xn--") {
			return // how people write it follows
		}
		got := render(t, hostile("x"+text))
		if shape(t, got) != want {
			t.Errorf("%q changes the page", text)
		}
		if strings.ContainsAny(string(got), "\u202e\u2066\u200b\x1b\x00\r") {
			t.Errorf("%q gets through", text)
		}
	})
}

// TestNames: an internationalised name is shown as DNS has it, and as people write it.
func TestNames(t *testing.T) {
	t.Parallel()
	text := string(render(t, example()))
	for _, want := range []string{"mx.xn--mnchen-3ya.example", "(mx.münchen.example)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}
