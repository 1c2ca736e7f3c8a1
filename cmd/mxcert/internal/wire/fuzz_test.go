package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/wire"
)

// FuzzRead sends any bytes to one end of a connection. Each line that is a message is read, in order, and nothing after the first that is
// none; the error then says whether the other end has hung up or sent rubbish, and stays.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "\n", `{"text":"a","n":1}` + "\n", "{}\n[]\n", `{"text":"a"}` + "\n" + `{"text":"b"`, "null\nnull\n", `{"n":"x"}` + "\n{}\n", "\x00\n", `{"text":"` + "\xff" + `"}` + "\n",
		`{"text":"a"} {"text":"b"}` + "\n", `{"n":99999999999999999999}` + "\n"} {
		f.Add([]byte(seed))
	}
	l, path := listen(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		raw, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, _ = raw.Write(sent)
			_ = raw.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for rest := sent; ; {
			line, after, whole := bytes.Cut(rest, []byte("\n"))
			var got, want message
			err := conn.Read(ctx, &got)
			switch bad := json.Unmarshal(line, &want) != nil; {
			case !whole && len(line) == 0 && errors.Is(err, io.EOF), !whole && len(line) > 0 && errors.Is(err, io.ErrUnexpectedEOF), whole && bad && errors.Is(err, wire.ErrMalformed):
				if again := conn.Read(ctx, &got); !errors.Is(again, err) {
					t.Errorf("%q: %v, and then %v", sent, err, again)
				}
				return
			case !whole || bad || err != nil || got != want:
				t.Fatalf("%q: the line %q is read as %+v, %v", sent, line, got, err)
			}
			rest = after
		}
	})
}
