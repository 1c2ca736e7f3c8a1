package nameserver_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestSignatures(t *testing.T) {
	w := newWorld(t)
	if err := w.AddKey("large.", dns.HmacSHA512, secret()); err != nil {
		t.Fatal(err)
	}
	if err := w.AddKey("narrow.", dns.HmacSHA384, secret(), "example.com"); err != nil {
		t.Fatal(err)
	}
	s := listen(t, w)
	now := time.Now().Unix()
	wrong := base64.StdEncoding.EncodeToString([]byte("wrong"))
	tests := []struct {
		what, key, algorithm, secret string
		time                         int64
		rcode, tsigError             int
	}{
		{"good", keyName, dns.HmacSHA256, secret(), now, dns.RcodeSuccess, 0},
		{"good, other case", "MXcert.", dns.HmacSHA256, secret(), now, dns.RcodeSuccess, 0},
		{"good SHA-512", "large.", dns.HmacSHA512, secret(), now, dns.RcodeSuccess, 0},
		{"a key for another zone", "narrow.", dns.HmacSHA384, secret(), now, dns.RcodeRefused, 0},
		{"unknown key", "other.", dns.HmacSHA256, secret(), now, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"wrong algorithm", keyName, dns.HmacSHA512, secret(), now, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"weak algorithm", keyName, dns.HmacSHA1, secret(), now, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"wrong secret", keyName, dns.HmacSHA256, wrong, now, dns.RcodeNotAuth, dns.RcodeBadSig},
		{"an hour ago", keyName, dns.HmacSHA256, secret(), now - 3600, dns.RcodeNotAuth, dns.RcodeBadTime},
		{"unsigned", "", "", "", 0, dns.RcodeRefused, 0},
	}
	for _, test := range tests {
		for _, network := range []string{"udp", "tcp"} {
			update := new(dns.Msg).SetUpdate("example.org.")
			update.Insert(records(t, "a.example.org. 60 TXT x"))
			client := dns.Client{Net: network, Timeout: time.Minute}
			if test.key != "" {
				update.SetTsig(test.key, test.algorithm, 300, test.time)
				client.TsigSecret = map[string]string{test.key: test.secret}
			}
			reply, _, err := client.ExchangeContext(t.Context(), update, s.Address())
			if reply == nil || (test.tsigError == 0 && err != nil) { // a good reply's own signature is checked here
				t.Fatalf("%s over %s: %v", test.what, network, err)
			}
			if reply.Rcode != test.rcode {
				t.Errorf("%s over %s: %s", test.what, network, dns.RcodeToString[reply.Rcode])
			}
			tsig := reply.IsTsig()
			if (tsig != nil) != (test.key != "") {
				t.Errorf("%s over %s: the reply's TSIG is %v", test.what, network, tsig)
			} else if tsig != nil && int(tsig.Error) != test.tsigError {
				t.Errorf("%s over %s: TSIG error %d, want %d", test.what, network, tsig.Error, test.tsigError)
			}
		}
	}
}

// TestBadTimeTellsTheTime holds the reply to RFC 8945 section 5.2.3: signed, with the server's time in it.
func TestBadTimeTellsTheTime(t *testing.T) {
	s := listen(t, newWorld(t))
	update := new(dns.Msg).SetUpdate("example.org.")
	update.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix()-3600)
	client := dns.Client{Net: "tcp", TsigSecret: map[string]string{keyName: secret()}}
	reply, _, _ := client.ExchangeContext(t.Context(), update, s.Address()) // the error says NOTAUTH
	if reply == nil || reply.IsTsig() == nil {
		t.Fatal("no TSIG in the reply")
	}
	if tsig := reply.IsTsig(); tsig.OtherLen != 6 || tsig.MACSize == 0 {
		t.Errorf("other data %q, MAC of %d bytes", tsig.OtherData, tsig.MACSize)
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, algorithm := range []string{dns.HmacSHA1, dns.HmacMD5, dns.HmacSHA224, "none."} {
		if err := w.AddKey("weak.", algorithm, secret()); err == nil {
			t.Errorf("a key of %s is taken", algorithm)
		}
	}
	if err := w.AddKey("bad.", dns.HmacSHA256, "not base64!"); err == nil {
		t.Error("a secret that is not base64 is taken")
	}
}
