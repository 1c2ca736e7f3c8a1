package notify

import (
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnRoots: a server with a CA of the operator's own is trusted if ca_file has its root, read anew for each message, and only then.
func TestOwnRoots(t *testing.T) {
	t.Parallel()
	got := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got++ }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	address := s.URL + "/hooks/" + token
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "own-ca.pem")
	channel := NewWebhook("chat", Webhook{URL: fixed(address), CAFile: file})
	fails := func(what string, c Channel, kind string, says ...string) {
		t.Helper()
		err := c.Send(t.Context(), alarm())
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind() != kind || strings.Contains(e.Error()+e.Hint(), token) {
			t.Fatalf("%s: %v", what, err)
		}
		for _, part := range says {
			if !strings.Contains(e.Error()+"\n"+e.Hint(), part) {
				t.Errorf("%s: %q is not in %q, %q", what, part, e.Error(), e.Hint())
			}
		}
	}
	fails("the system's roots", NewWebhook("chat", Webhook{URL: fixed(address)}), Encryption, "certificate of the webhook at 127.0.0.1", "unknown authority", "set webhook.ca_file")
	for what, text := range map[string]string{
		"empty": "", "no PEM": "roots\n", "a key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte(token)})),
		"garbage": string(root) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "too large": strings.Repeat("x", mostRoots+1),
	} {
		write(t, file, text)
		fails(what, channel, Setting, file, "in PEM")
		if err := channel.(Prober).Probe(t.Context(), false); err == nil {
			t.Errorf("%s: the channel is said to be ready", what)
		}
	}
	if got != 0 {
		t.Errorf("%d messages came over connections that were not checked", got)
	}
	write(t, file, "# our own CA\n"+string(root))
	if err := channel.Send(t.Context(), alarm()); err != nil || got != 1 {
		t.Errorf("%v, %d messages", err, got)
	}
	named := strings.Replace(address, "127.0.0.1", "localhost", 1)
	fails("another name", NewWebhook("chat", Webhook{URL: fixed(named), CAFile: file}), Encryption, "localhost", "as its certificate has it")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := CheckRoots(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := NewMail("desk", Mail{To: []string{"ops@elsewhere.example"}, Relay: &Relay{Address: "127.0.0.1:1", CAFile: file}}).(Prober).Probe(t.Context(), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a relay: %v", err)
	}
	// A dead man's switch has no such setting.
	err := NewPing("alive", fixed(address)).Ping(t.Context(), true, "well")
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind() != Encryption || !strings.Contains(e.Hint(), "update-ca-certificates") {
		t.Errorf("%v", err)
	}
}
