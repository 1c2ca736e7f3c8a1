package notify

import (
	"fmt"
	"net/mail"
	"strings"
	"testing"
)

// TestLinesOfAMail: no line of a mail is longer than RFC 5322 section 2.1.1 recommends, with as many recipients and matters as there can be.
func TestLinesOfAMail(t *testing.T) {
	t.Parallel()
	m := alarm()
	m.Subject = strings.Repeat("bücher and long words ", 20)
	m.Text = strings.Repeat("ü", 3000) + "\n" + strings.Repeat("x", 3000) + "\n"
	m.Host = strings.Repeat("a-long-label.", 9) + "example.org"
	for i := range 20 {
		matter := m.Matters[0]
		matter.ID = fmt.Sprint(i)
		m.Matters = append(m.Matters, matter)
	}
	var to []string
	for i := range 50 {
		to = append(to, fmt.Sprintf("somebody-with-a-long-name-%d@department.elsewhere.example", i))
	}
	text, _, err := (&mailer{name: "desk", Mail: Mail{To: to, From: "mxcert@mx.example.org"}}).compose(m.Clean())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\r\n") {
		words := line
		if name, value, found := strings.Cut(line, ": "); found && !strings.Contains(name, " ") {
			words = value // a name and its first word belong together
		}
		if strings.ContainsAny(line, "\r\n") || len(line) > 998 || len(line) > 78 && strings.Contains(strings.TrimSpace(words), " ") {
			t.Errorf("%d bytes: %q", len(line), line)
		}
	}
	got, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := got.Header.AddressList("To"); err != nil || len(list) != len(to) || list[49].Address != to[49] {
		t.Errorf("%d recipients, %v", len(list), err)
	}
}
