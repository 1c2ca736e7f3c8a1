package judges

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"mxcert/packaging/e2e/world"
)

// policy is an MTA-STS policy as the row's domain publishes it. The zero value with a mode is a good one.
type policy struct {
	mode  string           // enforce, testing, none
	mx    []string         // nil: {mx}
	txt   []string         // TXT records; nil: one good one
	text  string           // instead of the text of mode and mx
	as    string           // media type; "": text/plain
	code  int              // 0: 200
	leaf  leaf             // of mta-sts.{d}
	send  string           // chain
	large bool             // 70,000 octets
	away  bool             // no address
	serve http.HandlerFunc // instead of all that
}

func (p *policy) records(s *seat) []string {
	var lines []string
	texts := p.txt
	if texts == nil {
		texts = []string{"v=STSv1; id=20261129T000000;"}
	}
	for _, text := range texts {
		lines = append(lines, fmt.Sprintf("_mta-sts.%s. TXT %q", s.domain(), text))
	}
	if !p.away {
		lines = append(lines, "mta-sts."+s.domain()+". A "+stsServer)
	}
	return lines
}

func (p *policy) body(s *seat) string {
	if p.text != "" {
		return s.fill(p.text)
	}
	body := "version: STSv1\r\nmode: " + p.mode + "\r\nmax_age: 604800\r\n"
	patterns := p.mx
	if patterns == nil {
		patterns = []string{"{mx}"}
	}
	for _, pattern := range patterns {
		body += "mx: " + s.fill(pattern) + "\r\n"
	}
	if p.large {
		body += strings.Repeat("x: "+strings.Repeat("y", 97)+"\r\n", 700)
	}
	return body
}

// servePolicies starts the HTTPS host of all policies in the receiver's network.
func servePolicies(w *world.World, seats []*seat, ended <-chan struct{}) error {
	hosts, certificates := map[string]*seat{}, map[string]*tls.Certificate{}
	for _, s := range seats {
		if s.policy == nil {
			continue
		}
		host := "mta-sts." + s.domain()
		of := row{id: s.id, zone: s.zone, mx: host, leaf: s.policy.leaf, send: s.policy.send}
		web, err := seatOf(of, "", "", s.pki)
		if err != nil {
			return err
		}
		hosts[host], certificates[host] = s, &tls.Certificate{Certificate: web.chain, PrivateKey: web.leaves[0].key}
	}
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := certificates[hello.ServerName]; c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no such host: %q", hello.ServerName)
		}},
		Handler: http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			s := hosts[in.Host]
			if s == nil || in.URL.Path != "/.well-known/mta-sts.txt" {
				http.NotFound(out, in)
				return
			}
			answerPolicy(out, in, s)
		}),
	}
	var l net.Listener
	var listened error
	if err := w.Receiver.Do(func() { l, listened = net.Listen("tcp", stsServer+":443") }); err != nil || listened != nil {
		return fmt.Errorf("the policy host: %w", errors.Join(err, listened))
	}
	go func() { <-ended; server.Close() }()
	go func() { _ = server.ServeTLS(l, "", "") }() // it ends with the test
	return nil
}

func answerPolicy(out http.ResponseWriter, in *http.Request, s *seat) {
	p := s.policy
	if p.serve != nil {
		p.serve(out, in)
		return
	}
	out.Header().Set("Content-Type", or(p.as, "text/plain; charset=utf-8"))
	if p.code >= 300 && p.code < 400 {
		http.Redirect(out, in, "https://mta-sts."+s.domain()+"/.well-known/mta-sts.txt?again", p.code)
		return
	}
	if p.code != 0 {
		out.WriteHeader(p.code)
	}
	_, _ = io.WriteString(out, p.body(s))
}
