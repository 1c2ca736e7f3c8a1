package starttls

import (
	"crypto/tls"
	"testing"
	"time"
)

// goodServer is an SMTP server as it should be.
const goodServer = `
	> 220-mx.example.org ESMTP\r\n220 ready\r\n
	< EHLO client.example.org
	> 250-mx.example.org hello\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 HELP\r\n
	< STARTTLS
	> 220 go ahead\r\n
	tls
	< EHLO client.example.org
	> 250-mx.example.org hello again\r\n250-size 1000\r\n250 REQUIRETLS\r\n
	< QUIT
	> 221 bye\r\n
	wait
`

func request(address string) Request {
	return Request{Address: address, ServerName: "mx.example.org", HELO: "client.example.org",
		BannerTimeout: 5 * time.Second, StepTimeout: 5 * time.Second}
}

func TestHandshake(t *testing.T) {
	w := theWorld()
	config := &tls.Config{Certificates: []tls.Certificate{w.pair(w.ec), w.pair(w.rsa)}}
	address := serve(t, config, goodServer)
	r, err := Handshake(t.Context(), request(address))
	if err != nil {
		t.Fatal(err)
	}
	if !Match(r.Chain, w.ec.certificate) || len(r.Chain) != 2 {
		t.Errorf("chain: %v", r.Chain)
	}
	if r.Banner != "mx.example.org ESMTP" || !r.Offers("requiretls") || r.Offers("STARTTLS") || r.Version != tls.VersionTLS13 {
		t.Errorf("%+v", r)
	}
}
