package starttls

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
)

func TestReadReplyLeavesTheRest(t *testing.T) {
	in := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader("250-a b\r\n250-\r\n250 c\r\n220\r\nrest")), maxLine)
	first, err := readReply(in)
	if err != nil || first.code != 250 || fmt.Sprintf("%q", first.lines) != `["a b" "" "c"]` {
		t.Errorf("got %+v, %v", first, err)
	}
	second, err := readReply(in)
	if err != nil || second.code != 220 || len(second.lines) != 1 {
		t.Errorf("got %+v, %v", second, err)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "rest" {
		t.Errorf("the rest is %q", rest)
	}
}

func TestReadReplyLineLength(t *testing.T) {
	for length, ok := range map[int]bool{512: true, maxLine: true, maxLine + 1: false, 1 << 20: false} {
		text := "220 " + strings.Repeat("x", length-6) + "\r\n"
		_, err := readReply(bufio.NewReaderSize(strings.NewReader(text), maxLine))
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

// endless is a server that never stops; it counts what was taken.
type endless struct {
	line  string
	taken int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line)
	e.taken += n
	return n, nil
}

func TestReadReplyIsBounded(t *testing.T) {
	for _, line := range []string{"x", "220-" + strings.Repeat("y", 500) + "\r\n", "220-\r\n"} {
		e := &endless{line: line}
		_, err := readReply(bufio.NewReaderSize(e, maxLine))
		var syntax *syntaxError
		if !errors.As(err, &syntax) || e.taken > maxLine*(maxLines+2) || len(err.Error()) > 1200 {
			t.Errorf("%.10q: %v after %d bytes", line, err, e.taken)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	for _, seed := range []string{"220 x\r\n", "250-a\r\n250 b\r\n", "250\n", "220-\r\n", "2 0\r\n", "554 \x00\r\n", "220 a\rb\r\n", "", "250-a\r\n220 b\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(text), maxLine))
		if err != nil {
			if len(err.Error()) > 5*maxQuote+200 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxLines {
			t.Fatalf("code %d, %d lines", r.code, len(r.lines))
		}
		var again strings.Builder // written down and read again, it is the same
		for i, line := range r.lines {
			separator := "-"
			if i == len(r.lines)-1 {
				separator = " "
			}
			if len(line) > maxLine || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("line %q", line)
			}
			fmt.Fprintf(&again, "%d%s%s\n", r.code, separator, line)
		}
		same, err := readReply(bufio.NewReaderSize(strings.NewReader(again.String()), maxLine+8))
		if err != nil || fmt.Sprint(same) != fmt.Sprint(r) {
			t.Fatalf("%q became %+v, then %+v, %v", text, r, same, err)
		}
		for _, extension := range r.extensions() {
			if len(extension) > maxQuote+len("…") || strings.ContainsFunc(extension, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("extension %q", extension)
			}
		}
	})
}
