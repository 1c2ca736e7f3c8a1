package mailhost

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func at(milliseconds int) time.Time {
	return time.Unix(1, 0).Add(time.Duration(milliseconds) * time.Millisecond)
}

func TestGaps(t *testing.T) {
	refused := func(address string, began int) Session {
		return Session{Address: address, Began: at(began), Err: syscall.ECONNREFUSED}
	}
	served := func(address string, began int) Session { return Session{Address: address, Began: at(began)} }
	for _, tt := range []struct {
		what     string
		sessions []Session
		want     []time.Duration
	}{
		{"none", []Session{served("a", 0), served("a", 10)}, nil},
		{"one", []Session{served("a", 0), refused("a", 10), refused("a", 20), served("a", 45), refused("a", 50), served("a", 52)}, []time.Duration{2e6, 35e6}},
		{"each address by itself", []Session{refused("a", 0), served("b", 1), refused("b", 2), served("a", 30), served("b", 31)}, []time.Duration{29e6, 30e6}},
		{"another failure is none", []Session{refused("a", 0), {Address: "a", Began: at(5), Err: syscall.ECONNRESET}}, []time.Duration{5e6}},
		{"still closed", []Session{refused("a", 0)}, nil},
	} {
		if got := Gaps(tt.sessions); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

func TestFirstShown(t *testing.T) {
	sessions := []Session{
		{Serial: "b", Began: at(5), Secured: at(25)}, {Serial: "a", Began: at(11), Secured: at(20)}, {Serial: "b", Began: at(12), Secured: at(40)},
		{Serial: "b", Began: at(13), Secured: at(30)}, {},
	}
	if first, ok := FirstShown(sessions, "b", at(10)); !ok || !first.Equal(at(30)) {
		t.Errorf("%v, %t", first, ok)
	}
	if _, ok := FirstShown(sessions, "c", at(0)); ok {
		t.Error("what was never served")
	}
}

func TestExchange(t *testing.T) {
	smtp, imap := step{"EHLO x\r\n", "250"}, step{"b CAPABILITY\r\n", "b OK"}
	for _, tt := range []struct {
		what, says string
		step       step
		fails      bool
	}{
		{"several lines", "250-mx\r\n250-STARTTLS\r\n250 HELP\r\n", smtp, false},
		{"refused", "250-mx\r\n421 busy\r\n", smtp, true},
		{"cut off", "250-mx\r\n", smtp, true},
		{"untagged", "* CAPABILITY IMAP4rev1\r\nb OK done\r\n", imap, false},
		{"thrown out", "* BYE shutting down\r\n", imap, true},
		{"farewell", "* BYE logging out\r\nd OK done\r\n", logout(), false},
		{"greeting", "* OK ready\r\n", step{"", "* OK"}, false},
		{"no greeting", "* BYE busy\r\n", step{"", "* OK"}, true},
	} {
		if err := exchange(io.Discard, bufio.NewReader(strings.NewReader(tt.says)), tt.step); (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}
