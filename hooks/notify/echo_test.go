package notify

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestEchoes: whatever part of its URL a server repeats, an error does not show it.
func TestEchoes(t *testing.T) {
	t.Parallel()
	echo := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, echo)
	}))
	defer s.Close()
	address := strings.Replace(s.URL, "//", "//bot:Pa55w0rd@", 1) + "/hooks/first%2Fsecret/first%2Fsecret-and-more?key=second%20secret&x=third-secret"
	for _, echo = range []string{
		address, "no hook first%2Fsecret", "no hook first/secret", "no hook first/secret-and-more", "no key second%20secret", "no key second secret", "no key second+secret", "no x third-secret",
		"x=third-secret", "?key=second%20secret&x=third-secret", `{"url": "\/hooks\/first%2Fsecret\/first%2Fsecret-and-more"}`, "user bot, password Pa55w0rd",
	} {
		err := NewWebhook("chat", Webhook{URL: fixed(address)}).Send(t.Context(), alarm())
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Error(), "[secret]") {
			t.Fatalf("%q: %v", echo, err)
		}
		for _, part := range []string{"first", "second%", "second ", "second+", "third", "Pa55w0rd", "and-more"} {
			if strings.Contains(e.Error()+e.Hint(), part) {
				t.Errorf("%q: %s", echo, e.Error())
			}
		}
	}
}
