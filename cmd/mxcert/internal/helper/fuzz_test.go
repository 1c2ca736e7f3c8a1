package helper

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/deploy"
)

// answering is a client whose helper says the given bytes and hangs up.
func answering(f *testing.F) (c *Client, say func([]byte)) {
	f.Helper()
	dir, err := os.MkdirTemp("", "") // the path of a socket must be short
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	answers := make(chan []byte, 1)
	for _, kind := range []Kind{Install, Hook} {
		listener, err := net.Listen("unix", filepath.Join(dir, string(kind)+".sock"))
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write(<-answers)
				_, _ = conn.Read(make([]byte, 1<<16)) // the order
				_ = conn.Close()
			}
		}()
	}
	return &Client{Directory: dir, Root: os.Geteuid()}, func(text []byte) { answers <- text }
}

// FuzzInstallAnswer lets the install helper answer anything, first to the plan and then to each step. The service never takes an answer that
// cannot be read, or that says an error, for a success.
func FuzzInstallAnswer(f *testing.F) {
	for _, seed := range []string{
		"{}\n{}\n{}\n{}\n", `{"plan":{"changes":[{"path":"/x","why":"missing","content":true,"before":null,"after":{"owner":"root"}}]}}` + "\n" + `{"kept":["/k"]}` + "\n{}\n{}\n",
		`{"error":{"message":"m","kind":"k","hint":"h"}}` + "\n", `{"error":{}}` + "\n", `{"error":null}` + "\n", `{"plan":{"longer":{"path":"/x","not_after":"2999-01-01T00:00:00Z"}}}` + "\n",
		`{"plan":{"old_fault":"x","old_not_after":"2000-01-01T00:00:00Z"}}` + "\n", "null\n", "[]\n", "rubbish\n", "",
	} {
		f.Add([]byte(seed))
	}
	c, say := answering(f)
	b := issuer.New(f).Issue(f, life, "mx.example.org")
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		say(text)
		conn, err := c.dial(ctx, Install)
		if err != nil {
			t.Fatal(err)
		}
		plan := &remotePlan{ctx: ctx, name: "mx", conn: conn, say: func(string, string) {}}
		defer Close(plan)
		answers := strings.Count(string(text), "\n")
		good := 0
		plan.answer, err = conn.plan(ctx, wanted.Certificate{Name: "mx"}, []*bundle.Bundle{b})
		judge := func(err error) bool {
			if err == nil {
				good++
				return true
			}
			if e, ok := errors.AsType[*Error](err); !ok || len(e.Message) > len(text)+1000 {
				t.Errorf("%q: %v", text, err)
			}
			return false
		}
		if judge(err) {
			use(plan.Summary())
			_ = judge(plan.Apply(nil)) && judge(plan.Touch()) && judge(plan.Revert())
		}
		if good > answers {
			t.Errorf("%d successes in %q", good, text)
		}
	})
}

// use asks a summary everything that the service asks it.
func use(s deploy.Summary) {
	_, _, _, _ = s.Empty(), s.ContentChanges(), s.Revertible(time.Now()), s.Shortens(time.Now())
	for _, change := range s.Changes {
		_ = change.String()
	}
}

// FuzzHookAnswer lets the hook helper answer anything.
func FuzzHookAnswer(f *testing.F) {
	for _, seed := range []string{"{}\n", `{"outcomes":[{"hook":"/etc/mxcert/hooks/deploy.d/x","duration":7,"failed":true},{}]}` + "\n", `{"error":{"message":"m"}}` + "\n", `{"outcomes":7}` + "\n", "null\n", "x", ""} {
		f.Add([]byte(seed))
	}
	c, say := answering(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		say(text)
		conn, err := c.dial(ctx, Hook)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var answer hookAnswer
		err = conn.ask(ctx, hookOrder{Event: "pre", Name: "mx"}, &answer)
		if err == nil && !strings.Contains(string(text), "\n") {
			t.Errorf("%q is an answer: %+v", text, answer)
		}
		if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.KindText != Failed || errors.Is(err, wire.ErrMalformed)) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzNotes puts any bytes in the place of the install helper's own notes. It still deploys, keeps what it did not write, and remembers a
// bounded number of files.
func FuzzNotes(f *testing.F) {
	h, ca := newHost(f), issuer.New(f)
	for _, seed := range []string{"", "null", `{"version":1,"files":{"/x":{"mode":420,"uid":0,"gid":0}}}`, `{"version":1,"files":{"` + h.path("tls/mx.key") + `":{"mode":4095,"uid":-7,"gid":99999999999}}}`,
		strings.Repeat("0123456789abcdef\n", 2000), "\x00", "certificates: []\n"} {
		f.Add([]byte(seed))
	}
	bundles := []*bundle.Bundle{ca.Issue(f, life, "mx.example.org")}
	h.check(os.MkdirAll(h.path("helper/lineages/mx"), 0o700))
	h.check(os.MkdirAll(h.path("helper/written"), 0o700))
	prepared := *h
	f.Fuzz(func(t *testing.T, content []byte) {
		h := prepared
		h.t = t
		for _, name := range []string{"lineages/mx/record.json", "written/mx", "running.yaml"} {
			h.check(os.WriteFile(h.path("helper/"+name), content, 0o600))
		}
		h.check(os.RemoveAll(h.path("tls/mx.key")))
		h.check(os.RemoveAll(h.path("helper/lineages/mx/displaced")))
		h.check(os.WriteFile(h.path("tls/mx.crt"), []byte("an operator's own file"), 0o644))
		host, err := trustedHost(h.config)
		if err != nil {
			t.Fatal(err)
		}
		i := &installer{host: host}
		for _, order := range []installOrder{{Verb: verbPlan, Name: "mx", Bundles: filesOf(bundles[0])}, {Verb: verbApply, Name: "mx"}} {
			if answer := i.obey(t.Context(), order); answer.Error != nil {
				if strings.Contains(answer.Error.Message, "owner") { // a record may name owners that nobody has
					return
				}
				t.Fatalf("%q: %+v", content, answer.Error)
			}
		}
		if len(i.kept) != 1 {
			t.Errorf("%q: kept %q", content, i.kept)
		}
		if info, err := os.Lstat(h.path("tls/mx.key")); err != nil || info.Mode() != 0o640 {
			t.Errorf("%q: the key has mode %v (%v)", content, info.Mode(), err)
		}
		if list := written("mx"); len(list) > mostWritten {
			t.Errorf("%d files are remembered", len(list))
		}
	})
}
