package helper

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy"
)

// nobody is the number of the service's user.
const nobody = 65534

// deployTo sets the places of the certificate, one a line; DIR stands for the directory of the host.
func (h *host) deployTo(places ...string) {
	h.t.Helper()
	before, after, _ := strings.Cut(h.text(), "      - files:")
	_, after, _ = strings.Cut(after, "\n")
	for _, place := range places {
		before += "      - " + strings.ReplaceAll(place, "DIR", h.dir) + "\n"
	}
	h.write(before + after)
}

// serviceDirectory makes a directory of the service's user, like /var/lib/mxcert-keys.
func (h *host) serviceDirectory(name string) {
	h.t.Helper()
	if os.Geteuid() != 0 {
		h.t.Skip("only root can give files away")
	}
	h.check(os.MkdirAll(h.path(name), 0o755))
	h.check(os.Chown(h.path(name), nobody, 12345))
	h.check(os.Chmod(h.path(name), 0o750|os.ModeSetgid))
}

// serviceEnv holds, in a child that runs as the service's user, what it does; the other variables say where the host is.
const serviceEnv, hostEnv, socketsEnv = "MXCERT_TEST_SERVICE", "MXCERT_TEST_HOST", "MXCERT_TEST_SOCKETS"

// asChild runs one of the steps in a child that runs as the service's user.
func (h *host) asChild(step string) {
	h.t.Helper()
	for _, path := range []string{filepath.Dir(h.dir), h.dir, h.client.Directory} {
		h.check(os.Chmod(path, 0o755)) //nolint:gosec // the user has to pass
	}
	h.check(os.Chown(filepath.Join(h.client.Directory, string(Install)+".sock"), nobody, -1))
	child := exec.Command("/proc/self/exe", "-test.run=^TestMixedCertificate$", "-test.v")
	child.Env = append(os.Environ(), serviceEnv+"="+step, hostEnv+"="+h.dir, socketsEnv+"="+h.client.Directory)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := child.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestMixedCertificate")) {
		h.t.Fatalf("%s: %v\n%s", step, err, out)
	}
}

// inService is the host as its service sees it.
type inService struct {
	*host
	ca *issuer.Issuer
}

func (s inService) issue() *bundle.Bundle {
	return s.ca.Issue(s.t, life, "mx.example.org", "host7.example.org")
}

func (s inService) plan(b *bundle.Bundle) *jointPlan {
	s.t.Helper()
	plan, err := s.client.Plan(s.t.Context(), s.want(), []*bundle.Bundle{b}, nil, func(string, string) {})
	s.check(err)
	s.t.Cleanup(func() { Close(plan) })
	joint, ok := plan.(*jointPlan)
	if !ok {
		s.t.Fatalf("the plan is %T", plan)
	}
	return joint
}

// holds checks that all places hold a certificate.
func (s inService) holds(b *bundle.Bundle) {
	s.t.Helper()
	files := s.client.Looker()
	defer files.Close()
	if found, err := files.Look(s.t.Context(), s.want(), []*bundle.Bundle{b}, nil); err != nil || !found.Empty() {
		s.t.Errorf("they do not hold it: %+v, %v", found.Changes, err)
	}
}

// A certificate with places of root and of the service: the helper writes the first, the service the second, and both succeed or fail.
func TestMixedCertificate(t *testing.T) {
	if step := os.Getenv(serviceEnv); step != "" {
		dir := os.Getenv(hostEnv)
		s := inService{&host{t: t, dir: dir, config: filepath.Join(dir, "mxcert.yaml"), client: &Client{Directory: os.Getenv(socketsEnv)}}, issuer.New(t)}
		map[string]func(inService){"deploy": deploysBoth, "here fails": failsHere, "here fails at first": failsHereAtFirst, "there fails": failsThere, "unreadable": cannotRead}[step](s)
		return
	}
	mixed := func(t *testing.T) *host {
		h := newHost(t)
		h.serviceDirectory("keys")
		h.deployTo("files: {certificate: DIR/keys/mx.crt, private_key: DIR/keys/mx.key, reload: never}",
			`files: {certificate: DIR/tls/mx.crt, private_key: DIR/tls/mx.key, mode: "0640", reload: never}`,
			"files: {directory: DIR/keys/live, reload: never}",
			"files: {directory: DIR/tls/live, reload: never}",
			"exim: {combined: 'DIR/tls/mx.{serial}.pem', sni_map: DIR/tls/sni.map, reload: never, unchecked: true}",
			"exim: {combined: 'DIR/keys/mx.{serial}.pem', sni_map: DIR/keys/sni.map, reload: never, unchecked: true}")
		return h
	}
	same := func(h *host) {
		h.t.Helper()
		var found [][]byte
		for _, path := range []string{"tls/mx.crt", "keys/mx.crt", "tls/live/fullchain.pem", "keys/live/fullchain.pem"} {
			text, err := os.ReadFile(h.path(path))
			h.check(err)
			found = append(found, text)
		}
		for _, text := range found[1:] {
			if !bytes.Equal(text, found[0]) {
				h.t.Error("the places hold different certificates")
			}
		}
		info, err := os.Stat(h.path("keys/mx.key"))
		h.check(err)
		if s := info.Sys().(*syscall.Stat_t); s.Uid != nobody || s.Gid != 12345 || info.Mode() != 0o640 {
			h.t.Errorf("the service's key is %d:%d, %v", s.Uid, s.Gid, info.Mode())
		}
		h.noStaging()
	}
	t.Run("deploy", func(t *testing.T) {
		h := mixed(t)
		h.asChild("deploy")
		same(h)
	})
	t.Run("here fails", func(t *testing.T) {
		h := mixed(t)
		h.asChild("here fails")
		same(h)
	})
	t.Run("here fails at first", func(t *testing.T) {
		h := mixed(t)
		h.asChild("here fails at first")
		for _, path := range []string{"tls/*.crt", "tls/*.key", "tls/*.pem", "keys/mx.key", "keys/*.pem", "keys/live*", "tls/live*"} {
			if left, _ := filepath.Glob(h.path(path)); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		}
		if text, _ := os.ReadFile(h.path("tls/sni.map")); len(text) > 0 {
			t.Errorf("the map is %q", text)
		}
		h.noStaging()
	})
	t.Run("there fails", func(t *testing.T) {
		h := mixed(t)
		h.asChild("deploy")
		h.check(os.WriteFile(h.path("tls/mx.key"), []byte("the operator's own"), 0o600))
		kept := h.path("helper/lineages/mx/displaced")
		h.check(errors.Join(os.RemoveAll(kept), os.WriteFile(kept, nil, 0o600))) // the helper cannot keep that file
		before, err := os.ReadFile(h.path("keys/mx.key"))
		h.check(err)
		h.asChild("there fails")
		after, err := os.ReadFile(h.path("keys/mx.key"))
		h.check(err)
		if text, _ := os.ReadFile(h.path("tls/mx.key")); string(text) != "the operator's own" || !bytes.Equal(before, after) {
			t.Error("a part was written")
		}
		h.noStaging()
	})
	t.Run("unreadable", func(t *testing.T) {
		h := mixed(t)
		h.check(os.WriteFile(h.path("keys/mx.key"), []byte("of root"), 0o600))
		h.asChild("unreadable")
	})
}

func (h *host) noStaging() {
	h.t.Helper()
	if left, _ := filepath.Glob(h.path("*/.mxcert*")); len(left) > 0 {
		h.t.Errorf("left: %q", left)
	}
}

func deploysBoth(s inService) {
	first, second := s.issue(), s.issue()
	if _, err := s.client.Check(s.t.Context(), s.want(), nil, nil, true); err != nil {
		s.t.Error(err)
	}
	Close(s.plan(first)) // as a dry run does
	plan := s.plan(first)
	var changes []string
	for _, c := range plan.Summary().Changes {
		path := strings.ReplaceAll(strings.TrimPrefix(c.Path, s.dir+"/"), first.Serial(), "SERIAL")
		path, _, _ = strings.Cut(path, "/SERIAL-")
		changes = append(changes, path)
	}
	if want := []string{"keys/mx.key", "keys/mx.crt", "tls/mx.key", "tls/mx.crt", "keys/live.generations", "keys/live", "tls/live.generations", "tls/live", "tls/mx.SERIAL.pem", "keys/mx.SERIAL.pem", "tls/sni.map", "keys/sni.map"}; !slices.Equal(changes, want) {
		s.t.Errorf("changes %q, want %q", changes, want)
	}
	if plan.Summary().Revertible(plan.Summary().OldNotAfter) == nil {
		s.t.Error("there was nothing to go back to")
	}
	if _, err := s.client.Check(s.t.Context(), s.want(), nil, plan, true); err != nil {
		s.t.Error(err)
	}
	s.check(plan.Apply(keepNothing))
	s.holds(first)
	record := state.Record{Files: map[string]state.File{}}
	if notes := Remember(&record, s.want(), plan); len(notes) != 0 || record.Files[s.path("keys/mx.key")].UID != nobody || record.Files[s.path("tls/mx.key")].Mode != 0 {
		s.t.Errorf("remembered %+v, %q", record.Files, notes)
	}
	next := s.plan(second)
	if n := len(next.Summary().Changes); n != 12 {
		s.t.Errorf("%d changes: %+v", n, next.Summary().Changes)
	}
	s.check(next.Apply(keepNothing))
	s.holds(second)
	s.check(errors.Join(next.Touch(), next.Revert()))
	s.holds(first)
}

func keepNothing(string, []byte) error { return nil }

func failsHere(s inService) {
	first, second := s.issue(), s.issue()
	s.check(s.plan(first).Apply(keepNothing))
	full := errors.New("there is no room for the old files")
	if err := s.plan(second).Apply(func(string, []byte) error { return full }); !errors.Is(err, full) || strings.Contains(err.Error(), "\n") {
		s.t.Errorf("%v", err)
	}
	s.holds(first)
}

func failsHereAtFirst(s inService) {
	plan := s.plan(s.issue())
	s.check(os.MkdirAll(s.path("keys/mx.crt/in the way"), 0o700))
	if err := plan.Apply(keepNothing); err == nil || !strings.Contains(err.Error(), "keys/mx.crt") {
		s.t.Errorf("%v", err)
	}
	s.check(os.RemoveAll(s.path("keys/mx.crt")))
}

func failsThere(s inService) {
	if err := s.plan(s.issue()).Apply(keepNothing); err == nil || !strings.Contains(err.Error(), "displaced") {
		s.t.Errorf("%v", err)
	}
}

func cannotRead(s inService) {
	_, checkErr := s.client.Check(s.t.Context(), s.want(), nil, nil, false)
	_, planErr := s.client.Plan(s.t.Context(), s.want(), []*bundle.Bundle{s.issue()}, nil, nil)
	for _, err := range []error{checkErr, planErr} {
		if err == nil || report.KindOf(err) != "permission" || !strings.Contains(err.Error(), "leaves it to that user") || !strings.Contains(report.HintOf(err), "chown mxcert "+s.path("keys/mx.key")) {
			s.t.Errorf("%s: %v; %s", report.KindOf(err), err, report.HintOf(err))
		}
	}
}

// If both parts fail, or the way back of one, the errors say so, and what can go back does.
func TestPartsThatFail(t *testing.T) {
	there, here, back := errors.New("there"), errors.New("here"), errors.New("back")
	for _, c := range []struct {
		what        string
		there, here fakePlan
		want        string // what has been done
		errs        []error
	}{
		{"both succeed", fakePlan{}, fakePlan{}, "there: apply. here: apply.", nil},
		{"there", fakePlan{apply: there}, fakePlan{}, "there: apply.", []error{there}},
		{"here", fakePlan{}, fakePlan{apply: here}, "there: apply. here: apply. there: undo.", []error{here}},
		{"here, and the way back", fakePlan{undo: back}, fakePlan{apply: here}, "there: apply. here: apply. there: undo.", []error{here, back}},
	} {
		var done []string
		c.there.done, c.here.done = func(what string) { done = append(done, "there: "+what+".") }, func(what string) { done = append(done, "here: "+what+".") }
		j := &jointPlan{there: &c.there, here: &c.here}
		err := j.Apply(keepNothing)
		if got := strings.Join(done, " "); got != c.want || (err == nil) != (len(c.errs) == 0) {
			t.Errorf("%s: %q, %v", c.what, got, err)
		}
		for _, want := range c.errs {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", c.what, err, want)
			}
		}
	}
	for what, step := range map[string]func(*jointPlan) error{"revert": (*jointPlan).Revert, "touch": (*jointPlan).Touch} {
		var done []string
		note := func(what string) { done = append(done, what) }
		j := &jointPlan{there: &fakePlan{back: there, done: note}, here: &fakePlan{back: here, done: note}}
		if err := step(j); !errors.Is(err, there) || !errors.Is(err, here) || !slices.Equal(done, []string{what, what}) {
			t.Errorf("%s: %q, %v", what, done, err)
		}
	}
}

// fakePlan fails as it is told.
type fakePlan struct {
	apply, undo, back error
	done              func(what string)
}

func (f *fakePlan) Summary() deploy.Summary                { return deploy.Summary{} }
func (f *fakePlan) Apply(func(string, []byte) error) error { f.done("apply"); return f.apply }
func (f *fakePlan) Undo() error                            { f.done("undo"); return f.undo }
func (f *fakePlan) Revert() error                          { f.done("revert"); return f.back }
func (f *fakePlan) Touch() error                           { f.done("touch"); return f.back }
func (f *fakePlan) ApplyNew() ([]string, error)            { return nil, nil }

// The helper writes nothing below a directory that the service's user can write, however that user could, and in no layout.
func TestHelperLeavesDirectoriesOfTheService(t *testing.T) {
	for what, prepare := range map[string]func(h *host){
		"a directory of its own": func(*host) {},
		"a directory below": func(h *host) {
			h.check(os.Mkdir(h.path("keys/sub"), 0o755))
			h.check(os.Symlink("keys/sub", h.path("root")))
		},
		"a link of root's": func(h *host) {
			h.check(os.Rename(h.path("keys"), h.path("real")))
			h.check(os.Symlink("real", h.path("keys")))
		},
		"by the mode of the directory": func(h *host) { h.check(os.Chown(h.path("keys"), 0, nobody)); h.check(os.Chmod(h.path("keys"), 0o770)) },
	} {
		t.Run(what, func(t *testing.T) {
			h, ca := newHost(t), issuer.New(t)
			h.serviceDirectory("keys")
			prepare(h)
			dir := "DIR/keys"
			if _, err := os.Lstat(h.path("root")); err == nil {
				dir = "DIR/root"
			}
			h.deployTo("files: {certificate: "+dir+"/mx.crt, private_key: "+dir+"/mx.key, owner: '65534', reload: never}",
				"files: {directory: "+dir+"/live, reload: never}",
				"exim: {combined: '"+dir+"/mx.{serial}.pem', sni_map: "+dir+"/sni.map, reload: never, unchecked: true}",
				`files: {combined: DIR/tls/mx.pem, mode: "0640", reload: never}`)
			b := ca.Issue(t, life, "mx.example.org")
			var want []string
			for _, name := range []string{"mx.crt", "mx.key", "live", "mx.{serial}.pem", "sni.map"} {
				want = append(want, strings.Replace(dir, "DIR", h.dir, 1)+"/"+name)
			}
			check, _ := h.install(installOrder{Verb: verbCheck, Name: "mx"})
			plan := h.plan(b)
			for _, answer := range []installAnswer{check, plan.answer} {
				if answer.Error != nil || !slices.Equal(answer.Left, want) {
					t.Errorf("left to the service: %q, want %q; %+v", answer.Left, want, answer.Error)
				}
			}
			if c := plan.Summary().Changes; len(c) != 1 || c[0].Path != h.path("tls/mx.pem") {
				t.Errorf("planned: %+v", c)
			}
			h.check(plan.Apply(nil))
			if entries, err := os.ReadDir(h.path("keys")); err != nil || len(entries) > 0 && entries[0].Name() != "sub" {
				t.Errorf("written: %v, %v", entries, err)
			}
			// Where the service can write the way only later, the plan is refused.
			later := h.plan(ca.Issue(t, life, "mx.example.org"))
			h.check(os.Chown(h.path("tls"), nobody, 0))
			for _, step := range []func() error{func() error { return later.Apply(nil) }, later.Revert} {
				if err := step(); err == nil || report.KindOf(err) != "refused" || !strings.Contains(err.Error(), "the user nobody can write this directory") {
					t.Errorf("%v", err)
				}
			}
			if text, _ := os.ReadFile(h.path("tls/mx.pem")); !bytes.Equal(text, b.CombinedPEM()) {
				t.Error("it was written")
			}
		})
	}
}

// One entry of `deploy` cannot be written half by root and half by the service. What somebody does who has taken over the service: a plan
// is not kept.
func TestTornEntry(t *testing.T) {
	h, ca := newHost(t), issuer.New(t)
	h.serviceDirectory("keys")
	b := ca.Issue(t, life, "mx.example.org")
	for _, place := range []string{"files: {certificate: DIR/tls/mx.crt, private_key: DIR/keys/mx.key, reload: never}",
		"exim: {combined: 'DIR/keys/mx.{serial}.pem', sni_map: DIR/tls/sni.map, reload: never, unchecked: true}"} {
		h.deployTo(place)
		for _, order := range []installOrder{{Verb: verbCheck, Name: "mx"}, {Verb: verbPlan, Name: "mx", Bundles: filesOf(b)}} {
			answer, c := h.install(order)
			if e := answer.Error; e == nil || e.Kind() != "refused" || !strings.Contains(e.Message, h.path("keys/")) || !strings.Contains(e.Message, h.path("tls/")) || !strings.Contains(e.Hint(), "/var/lib/mxcert-keys") {
				t.Errorf("%+v", answer.Error)
			}
			var applied installAnswer
			h.check(c.ask(t.Context(), installOrder{Verb: verbApply, Name: "mx"}, &applied))
			if applied.Error == nil {
				t.Error("it was applied")
			}
		}
	}
	if entries, err := os.ReadDir(h.path("tls")); err != nil || len(entries) > 0 {
		t.Errorf("written: %v, %v", entries, err)
	}
}
