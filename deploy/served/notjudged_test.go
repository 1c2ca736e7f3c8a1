package served

import (
	"bufio"
	"io"
	"net"
	"testing"

	"mxcert/deploy/starttls"
)

// A server without a usable certificate may refuse every handshake with the same alert as one that speaks what Go does not. A reload may
// help the first.
func TestReloadMayHelpAServerThatRefusesEveryHandshake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for _, answer := range []string{"220 mx.example.org\r\n", "250-mx.example.org\r\n250 STARTTLS\r\n", "220 go ahead\r\n"} {
			_, _ = io.WriteString(conn, answer)
			_, _ = in.ReadString('\n')
		}
		_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 40}) // alert handshake_failure
	}()
	results := Look(t.Context(), []Probe{{Address: listener.Addr().String(), ServerName: "mx.example.org"}})
	if results[0].kind() != starttls.KindNotJudged || !Reloadable(results) {
		t.Errorf("%v", results[0].Err)
	}
}
