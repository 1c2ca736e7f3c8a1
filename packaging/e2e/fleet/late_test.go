package fleet

import (
	"net"
	"testing"
)

// An answer that comes after its question was given up does not spoil the next look.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it is at hand
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		var late []byte
		for {
			question := make([]byte, 4096)
			n, from, err := server.ReadFrom(question)
			if err != nil {
				return
			}
			question[2] |= 0x80 // the question as an answer: it has no records
			if late == nil {
				late = question[:n]
				continue
			}
			_, _ = server.WriteTo(late, from)
			_, _ = server.WriteTo(question[:n], from)
		}
	}()
	c, err := net.Dial("udp", server.LocalAddr().String()) //nolint:noctx // it is at hand
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := askTLSA(c, "_25._tcp.mx1.example.org."); err == nil {
		t.Error("there was no answer")
	}
	for range 3 {
		if set, err := askTLSA(c, "_25._tcp.mx1.example.org."); err != nil || set != "" {
			t.Errorf("%q, %v", set, err)
		}
	}
}
