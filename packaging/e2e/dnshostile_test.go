package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// hostile are the ways of DNS servers that mean harm, or look as if they did.
var hostile = []string{world.Loops, world.Huge, world.Liar, world.Garbage, world.EndlessTCP, world.Silent, world.DropTLSA, world.SetsAD}

// A look is how a run of verify ended, and what it took.
type dnsLook struct {
	code   int
	took   time.Duration
	memory int // the largest resident memory in KiB
	hosts  map[string]map[string]string
	output string
}

// Name servers and resolvers that mean harm cost a look neither more than its time nor twice the memory, and the verdicts of other hosts
// are whole.
func TestHostileDNS(t *testing.T) {
	mailhost.Require(t)
	t.Parallel()
	w := world.Start(t, "")
	roots, tlsa := serveGoodMail(t, w)
	zones := []world.Zone{{Name: "good.test", Records: "@ MX 10 mx\nmx A " + world.ReceiverIPv4 + "\n_25._tcp.mx TLSA " + tlsa + "\n"}}
	var fronts []world.Front
	for i, mode := range hostile {
		address := fmt.Sprintf("203.0.113.%d", 81+i)
		fronts = append(fronts, world.Front{Address: address, Mode: mode})
		zones = append(zones,
			world.Zone{Name: mode + ".test", Sign: world.Unsigned, Servers: []string{address}, Records: "@ MX 10 mx\nmx A " + world.ReceiverIPv4 + "\n"},
			world.Zone{Name: "beside-" + mode + ".example", Records: "@ MX 10 mx.good.test.\n@ MX 20 mx." + mode + ".test.\n"})
	}
	d, err := w.ServeDNS(t.Context(), zones...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Receiver.Fronts(t.Context(), fronts...); err != nil {
		t.Fatal(err, d.Logs())
	}
	if err := w.Sender.Install(t.Context(), "mxcert/cmd/mxcert", "/usr/bin/mxcert"); err != nil {
		t.Fatal(err)
	}
	good := lookAt(t, w, "--domain", "good.test", "--roots", roots)
	if good.code != 0 || good.hosts["mx.good.test"]["pkix"] != "pass deliver" || good.hosts["mx.good.test"]["dane"] != "pass deliver" {
		t.Fatalf("a good domain: exit code %d\n%s", good.code, good.output)
	}
	figure(t, "a good domain: %v, %d KiB", good.took, good.memory)
	for i, mode := range hostile {
		check := func(what string, l dnsLook) {
			t.Helper()
			if l.took > lookTime+2*time.Second || l.memory > 2*good.memory || l.code == 1 || l.code > 100 {
				t.Errorf("%s %s: exit code %d after %v with %d KiB; a good one %d KiB\n%s", mode, what, l.code, l.took, l.memory, good.memory, l.output)
			}
			figure(t, "%s, %s: exit code %d, %v, %d KiB", mode, what, l.code, l.took, l.memory)
		}
		beside := lookAt(t, w, "--domain", "beside-"+mode+".example", "--roots", roots)
		check("name server of one of two hosts", beside)
		if got, want := fmt.Sprint(beside.hosts["mx.good.test"]), fmt.Sprint(good.hosts["mx.good.test"]); got != want {
			t.Errorf("%s: the verdicts of the good host are %s, alone %s\n%s", mode, got, want, beside.output)
		}
		through := lookAt(t, w, "--domain", "good.test", "--roots", roots, "--resolver", fronts[i].Address)
		check("resolver", through)
		for host, verdicts := range through.hosts {
			if !strings.HasPrefix(verdicts["dane"], "n/a") {
				t.Errorf("%s as resolver: the verdict about DANE of %s is %s: nobody whose word counts has validated\n%s", mode, host, verdicts["dane"], through.output)
			}
		}
	}
}

// serveGoodMail starts a mail server for mx.good.test on the receiver, and returns the path of its root on the sender and its TLSA record.
func serveGoodMail(t *testing.T, w *world.World) (roots, tlsa string) {
	t.Helper()
	certificate := issuer.New(t).Issue(t, 90*24*time.Hour, "mx.good.test")
	directory := t.TempDir()
	pair := smtpd.Pair{Certificate: filepath.Join(directory, "chain.pem"), PrivateKey: filepath.Join(directory, "key.pem")}
	for path, content := range map[string][]byte{pair.Certificate: certificate.LeafPEM(), pair.PrivateKey: certificate.KeyPEM()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := w.Receiver.Do(func() {
		s, err := smtpd.Start(smtpd.Options{Listen: net.JoinHostPort(world.ReceiverIPv4, "25"), Pairs: []smtpd.Pair{pair}})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = s.Close() })
	})
	if err != nil {
		t.Fatal(err)
	}
	roots = "/etc/world/mail-roots.pem"
	if err := w.Sender.Write(roots, string(certificate.ChainPEM()), 0o644); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(certificate.Leaf().RawSubjectPublicKeyInfo)
	return roots, "3 1 1 " + hex.EncodeToString(digest[:])
}

// lookTime is the --timeout of a look.
const lookTime = 8 * time.Second

// measured runs a program and prints, as the last line of standard error, the largest resident memory in KiB.
const measured = `import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)`

func lookAt(t *testing.T, w *world.World, arguments ...string) dnsLook {
	t.Helper()
	began := time.Now()
	r, err := w.Sender.Run(t.Context(), append([]string{"python3", "-c", measured, "mxcert", "verify", "--json", "--timeout", lookTime.String()}, arguments...)...)
	if err != nil {
		t.Fatal(err)
	}
	l := dnsLook{code: r.Code, took: time.Since(began).Round(time.Millisecond), hosts: map[string]map[string]string{}, output: r.Stdout + r.Stderr}
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	if l.memory, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
		t.Fatalf("%v\n%s", err, l.output)
	}
	var report struct {
		Hosts []struct {
			MX       string
			Verdicts map[string]struct{ Result, Action, Type string }
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("%v\n%s", err, l.output)
	}
	for _, h := range report.Hosts {
		l.hosts[h.MX] = map[string]string{}
		for kind, v := range h.Verdicts {
			l.hosts[h.MX][kind] = strings.TrimSpace(v.Result + " " + v.Action + " " + v.Type)
		}
	}
	return l
}
