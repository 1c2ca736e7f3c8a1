package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"mxcert/packaging/e2e/mailhost"
)

const (
	responderAddress = "127.0.0.1:8888"
	responderFiles   = "/root/ocsp"
)

// responder answers inside the host as the authority's OCSP responder. Each answer is made and signed by a process of Debian's openssl, as a
// responder of `openssl ocsp -index` does it; its own server takes one connection at a time, and one that says nothing blocks it.
type responder struct {
	story *story

	mu       sync.Mutex
	down     bool
	life     []string          // how long responses live, as arguments of openssl
	statuses map[string]string // by serial: V is good, R revoked, "" unknown
	status   string            // of other serials
	asked    int
	problems []string
}

// startResponder starts it for the authority that runs now.
func startResponder(s *story) *responder {
	s.t.Helper()
	client, err := s.HTTPClient(mailhost.CAFile)
	s.check(err)
	defer client.CloseIdleConnections()
	for path, file := range map[string]string{"/intermediates/0": "ca.pem", "/intermediate-keys/0": "ca.key"} {
		answer, err := client.Get(mailhost.ManagementURL + path)
		s.check(err)
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		s.check(err)
		s.check(answer.Body.Close())
		s.check(s.Put(responderFiles+"/"+file, text, 0o600))
	}
	r := &responder{story: s, life: []string{"-ndays", "7"}, statuses: map[string]string{}, status: "V"}
	listener, err := s.Listen(s.t.Context(), "tcp", responderAddress)
	s.check(err)
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-served
		for _, problem := range r.problems {
			s.t.Error("the responder: ", problem)
		}
	})
	return r
}

// set changes what it answers.
func (r *responder) set(change func(*responder)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// times is how often it was asked.
func (r *responder) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *responder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	switch {
	case r.down:
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case request.Method != http.MethodPost: // mxcert then asks by POST
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	answer, err := r.answer(request)
	if err != nil {
		r.problems = append(r.problems, err.Error())
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(answer)
}

// answer lets openssl answer one request.
func (r *responder) answer(request *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	question, err := ocsp.ParseRequest(body)
	if err != nil {
		return nil, err
	}
	serial := fmt.Sprintf("%x", question.SerialNumber)
	host := r.story.Host
	if err := host.Put(responderFiles+"/index.txt", []byte(r.index(serial)), 0o600); err != nil {
		return nil, err
	}
	if err := host.Put(responderFiles+"/request.der", body, 0o600); err != nil {
		return nil, err
	}
	at := func(name string) string { return responderFiles + "/" + name }
	args := append([]string{"openssl", "ocsp", "-index", at("index.txt"), "-CA", at("ca.pem"), "-rsigner", at("ca.pem"), "-rkey", at("ca.key"),
		"-reqin", at("request.der"), "-respout", at("response.der")}, r.life...)
	if _, err := host.Must(request.Context(), args...); err != nil {
		return nil, err
	}
	return host.Get(at("response.der"))
}

// index is what openssl knows, as `openssl ca` writes it. It wants at least one certificate, and each subject once.
func (r *responder) index(serial string) string {
	status, known := r.statuses[serial]
	if !known {
		status = r.status
	}
	ends := time.Now().AddDate(0, 0, 90).UTC().Format("060102150405Z")
	text := fmt.Sprintf("V\t%s\t\t01\tunknown\t/CN=another\n", ends)
	if status == "" {
		return text
	}
	revoked := ""
	if status == "R" {
		revoked = time.Now().UTC().Format("060102150405Z") + ",keyCompromise"
	}
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	return text + fmt.Sprintf("%s\t%s\t%s\t%s\tunknown\t/CN=mx\n", status, ends, revoked, strings.ToUpper(serial))
}

// stapleFile is where mxcert writes the response.
const stapleFile = "/etc/exim4/ocsp.der"

// The ways to have Exim send it.
const (
	conditional = "tls_ocsp_file = ${if exists{" + stapleFile + "}{" + stapleFile + ".served}}"
	plain       = "tls_ocsp_file = " + stapleFile
)

// stapling is a story whose certificates name the responder, and whose Exim reads the layout.
func stapling(t *testing.T, layout, reload string) (*story, *responder) {
	t.Helper()
	l := findLayout(t, "exim", layout)
	l.target += `, ocsp: "` + stapleFile + `"`
	s := begin(t, options{config: serversConfig(l.line(reload), "exim")})
	s.check(s.StartPebbleWith(t.Context(), 90*24*time.Hour, map[string]any{"ocspResponderURL": "http://" + responderAddress, "keyAlgorithm": "rsa"}))
	r := startResponder(s)
	l.script += "\nupdate-exim4.conf"
	s.lay(l)
	return s, r
}

// staples adds a line to Exim's configuration.
func (s *story) staples(line string) {
	s.t.Helper()
	must(s.t, s.Host, "sh", "-ec", "printf '%s\\n' \"$1\" >>/etc/exim4/exim4.conf.localmacros; update-exim4.conf; systemctl restart exim4", "sh", line)
	for _, address := range endpoints("exim") {
		s.check(s.AwaitPort(s.t.Context(), address))
	}
}
