package deploy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// named makes a certificate for names.
func named(t testing.TB, key crypto.Signer, serial int64, names ...string) *bundle.Bundle {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sni(dir, lineage string) deploy.Target {
	return deploy.Target{Kind: "exim", Combined: filepath.Join(dir, lineage+".{serial}.pem"), SNIMap: filepath.Join(dir, "sni.map")}
}

func deployAs(t testing.TB, lineage string, jobs ...deploy.Job) *deploy.Plan {
	t.Helper()
	for i := range jobs {
		if jobs[i].Names == nil {
			jobs[i].Names = jobs[i].Bundle.Leaf().DNSNames
		}
	}
	p, err := deploy.Make(lineage, jobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(keepNothing); err != nil {
		t.Fatal(err)
	}
	return p
}

// mapHolds compares the map, with DIR for its directory.
func mapHolds(t testing.TB, dir string, want ...string) {
	t.Helper()
	text := strings.ReplaceAll(string(read(t, filepath.Join(dir, "sni.map"))), dir, "DIR")
	if got := strings.Split(strings.TrimSuffix(text, "\n"), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the map is\n%s\nwant\n%s", text, strings.Join(want, "\n"))
	}
	noStaging(t, dir)
}

func TestSNIMap(t *testing.T) {
	dir := t.TempDir()
	ec, rsa := newKey(t, bundle.EC256), newKey(t, bundle.EC384)
	write(t, filepath.Join(dir, "sni.map"), "# mine\nold.example.org: /etc/old.pem\n", 0o644)
	target := sni(dir, "mx")
	p := deployAs(t, "mx", deploy.Job{Bundle: named(t, ec, 1, "mx.example.org", "Host7.example.org"), Target: target})
	first := []string{"# mine", "old.example.org: /etc/old.pem", "host7.example.org: DIR/mx.01.pem", "mx.example.org: DIR/mx.01.pem", "*: DIR/mx.01.pem"}
	mapHolds(t, dir, first...)
	if mode(t, target.SNIMap) != 0o644 {
		t.Error("the map has lost its mode")
	}
	if err := p.Summary().Revertible(time.Now()); err == nil {
		t.Error("there was nothing to go back to")
	}
	next := named(t, ec, 2, "mx.example.org")
	p = deployAs(t, "mx", deploy.Job{Bundle: next, Target: target})
	mapHolds(t, dir, "# mine", "old.example.org: /etc/old.pem", "mx.example.org: DIR/mx.02.pem", "*: DIR/mx.02.pem")
	if err := p.Summary().Revertible(time.Now()); err != nil {
		t.Errorf("the certificate that the map named before: %v", err)
	}
	// Another certificate joins, and does not become the one for any name.
	other := deploy.Job{Bundle: named(t, rsa, 7, "*.example.net"), Target: sni(dir, "other")}
	deployAs(t, "other", other)
	mapHolds(t, dir, "# mine", "old.example.org: /etc/old.pem", "mx.example.org: DIR/mx.02.pem", "*.example.net: DIR/other.07.pem", "*: DIR/mx.02.pem")
	// The way back leaves alone what others have changed since.
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	mapHolds(t, dir, "# mine", "old.example.org: /etc/old.pem", "mx.example.org: DIR/mx.01.pem", "*.example.net: DIR/other.07.pem", "host7.example.org: DIR/mx.01.pem", "*: DIR/mx.01.pem")
	other.Target.Default = true
	deployAs(t, "other", other)
	mapHolds(t, dir, "# mine", "old.example.org: /etc/old.pem", "mx.example.org: DIR/mx.01.pem", "*.example.net: DIR/other.07.pem", "host7.example.org: DIR/mx.01.pem", "*: DIR/other.07.pem")
	// Two types of key are loaded together.
	deployAs(t, "mx", deploy.Job{Bundle: next, Target: target}, deploy.Job{Bundle: named(t, rsa, 3, "mx.example.org"), Target: sni(dir, "mx-rsa")})
	mapHolds(t, dir, "# mine", "old.example.org: /etc/old.pem", "mx.example.org: DIR/mx.02.pem : DIR/mx-rsa.03.pem", "*.example.net: DIR/other.07.pem", "*: DIR/other.07.pem")
	if !plan(t, other.Bundle, other.Target).Summary().Empty() {
		t.Error("it is not done")
	}
}

// TestOnlyWantedNamesComeIntoAMap: a CA, or whoever took over the service, writes what it likes into a certificate.
func TestOnlyWantedNamesComeIntoAMap(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sni.map"), "imap.example.net: /etc/other.pem\n", 0o644)
	b := named(t, newKey(t, bundle.EC256), 1, "imap.example.net", "a.test: /etc/shadow\nevil.test", "b_c.example.org", "MX.example.org", "*.example.com")
	job := deploy.Job{Bundle: b, Target: sni(dir, "mx"), Names: []string{"mx.example.org", "*.example.com", "host7.example.org", "b_c.example.org", "a.test: /etc/shadow\nevil.test"}}
	deployAs(t, "mx", job)
	mapHolds(t, dir, "imap.example.net: /etc/other.pem", "*.example.com: DIR/mx.01.pem", "mx.example.org: DIR/mx.01.pem", "*: DIR/mx.01.pem")
	job.Bundle, job.Names = named(t, newKey(t, bundle.EC256), 2, "imap.example.net"), []string{"mx.example.org"}
	deployAs(t, "mx", job)
	mapHolds(t, dir, "imap.example.net: /etc/other.pem", "*: DIR/mx.01.pem")
}

// TestUnwantedNameStaysWhileItIsServed: the names in the configuration have changed, and the order for them has failed. Then the served
// certificate still has the old name, and so has the map.
func TestUnwantedNameStaysWhileItIsServed(t *testing.T) {
	dir := t.TempDir()
	job := deploy.Job{Bundle: named(t, newKey(t, bundle.EC256), 1, "old.example.org", "mx.example.org"), Target: sni(dir, "mx"), Names: []string{"old.example.org", "mx.example.org"}}
	deployAs(t, "mx", job)
	lines := []string{"mx.example.org: DIR/mx.01.pem", "old.example.org: DIR/mx.01.pem", "*: DIR/mx.01.pem"}
	mapHolds(t, dir, lines...)
	job.Names = []string{"new.example.org", "mx.example.org"}
	deployAs(t, "mx", job)
	mapHolds(t, dir, lines...)
	job.Bundle = named(t, newKey(t, bundle.EC256), 2, "new.example.org", "mx.example.org")
	deployAs(t, "mx", job)
	mapHolds(t, dir, "mx.example.org: DIR/mx.02.pem", "new.example.org: DIR/mx.02.pem", "*: DIR/mx.02.pem")
}

// TestSNIMapNamesWhatIsThere: whoever reads the map at any time finds each file that it names.
func TestSNIMapNamesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t, bundle.EC256)
	deployAs(t, "mx", deploy.Job{Bundle: named(t, key, 1, "mx.example.org"), Target: sni(dir, "mx")})
	var writer sync.WaitGroup
	done := make(chan struct{})
	writer.Go(func() {
		defer close(done)
		for serial := range int64(30) {
			deployAs(t, "mx", deploy.Job{Bundle: named(t, newKey(t, bundle.EC256), serial+2, "mx.example.org"), Target: sni(dir, "mx")})
		}
	})
	named := func() string {
		return strings.TrimSpace(strings.TrimPrefix(strings.SplitN(string(read(t, filepath.Join(dir, "sni.map"))), "\n", 2)[0], "mx.example.org:"))
	}
	looks := 0
	for ended := false; !ended; looks++ {
		select {
		case <-done:
			ended = true
		default:
		}
		path := named()
		content, err := os.ReadFile(path)
		if err != nil && named() != path {
			continue // many deployments ago
		}
		text := string(content)
		cut := max(strings.Index(text, "-----BEGIN CERT"), 0)
		if _, err := bundle.Parse([]byte(text[cut:]), []byte(text[:cut])); err != nil {
			t.Error(err)
		}
	}
	writer.Wait()
	if versions, err := filepath.Glob(filepath.Join(dir, "mx.*.pem")); err != nil || len(versions) != 4 {
		t.Errorf("%d versions are left: %q", len(versions), versions)
	}
	t.Logf("%d looks", looks)
}

// TestSNIMapOfMany: certificates that are deployed at the same time all get their line.
func TestSNIMapOfMany(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("mx%d.example.org", i)
		b := named(t, newKey(t, bundle.EC256), int64(i+1), name)
		group.Go(func() { deployAs(t, name, deploy.Job{Bundle: b, Target: sni(dir, name)}) })
	}
	group.Wait()
	text := string(read(t, filepath.Join(dir, "sni.map")))
	for i := range 8 {
		if !strings.Contains(text, fmt.Sprintf("mx%d.example.org: ", i)) {
			t.Errorf("no line for mx%d:\n%s", i, text)
		}
	}
	noStaging(t, dir)
	if strings.Count(text, "*:") != 1 || !strings.Contains(text[strings.LastIndex(strings.TrimSpace(text), "\n"):], "*: ") {
		t.Errorf("the line for any name is not the last:\n%s", text)
	}
}

// fakePostmap stands for Postfix's program: it makes a file with what the source names, and answers from it.
func fakePostmap(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/postmap"); err == nil {
		t.Skip("this host has Postfix; its own program is tried by the end-to-end tests")
	}
	bin := t.TempDir()
	write(t, filepath.Join(bin, "postmap"), `#!/bin/sh
set -e
[ "$1" = -F ]
if [ "$2" = -q ]; then
	file=${4#*:}
	sed -n "/^@@$3\$/,/^@@/p" "$file.db" | grep -v ^@@
	exit
fi
file=${2#*:}
case "$2" in cdb:*) echo "postmap: fatal: unsupported dictionary type: cdb" >&2; exit 1;; esac
[ "$(stat -c %a "$file")" = 600 ] || { echo "source has mode $(stat -c %a "$file")" >&2; exit 1; }
while read -r name files; do
	echo "@@$name"
	for f in $(echo "$files" | tr , ' '); do
		cat "$f" || echo "postmap: warning: $f: skipping this entry" >&2
		echo
	done
done <"$file" >"$file.db"
`, 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestPostfixMap(t *testing.T) {
	fakePostmap(t)
	dir := t.TempDir()
	target := deploy.Target{Kind: "postfix", Combined: filepath.Join(dir, "mx.pem"), SNIMap: "hash:" + filepath.Join(dir, "sni.map")}
	key := newKey(t, bundle.EC256)
	first, second := named(t, key, 1, "mx.example.org", "*.example.net"), named(t, key, 2, "mx.example.org", "*.example.net")
	compiled := func(b *bundle.Bundle) {
		t.Helper()
		mapHolds(t, dir, ".example.net DIR/mx.pem", "mx.example.org DIR/mx.pem")
		db := filepath.Join(dir, "sni.map.db")
		if text := string(read(t, db)); strings.Count(text, string(b.CombinedPEM())) != 2 || mode(t, db) != 0o600 || mode(t, filepath.Join(dir, "sni.map")) != 0o600 {
			t.Errorf("the compiled map (mode %o) does not hold %s:\n%s", mode(t, db), b.Serial(), text)
		}
	}
	deployAs(t, "mx", deploy.Job{Bundle: first, Target: target})
	compiled(first)
	if !plan(t, first, target).Summary().Empty() {
		t.Errorf("it is not done: %+v", plan(t, first, target).Summary().Changes)
	}
	p := deployAs(t, "mx", deploy.Job{Bundle: second, Target: target})
	compiled(second)
	if err := p.Revert(); err != nil {
		t.Fatal(err)
	}
	compiled(first)
	// The compiled map alone is behind.
	write(t, filepath.Join(dir, "sni.map.db"), "@@mx.example.org\nold\n", 0o600)
	if p := plan(t, first, target); p.Summary().Empty() || !p.Summary().ContentChanges() {
		t.Error("a compiled map with old content is not noticed")
	}
	apply(t, first, deploy.Target{Kind: "postfix", Combined: target.Combined, SNIMap: target.SNIMap})
	compiled(first)
}

// TestPostfixMapOfAnotherUser: each line of it would make root read a file.
func TestPostfixMapOfAnotherUser(t *testing.T) {
	fakePostmap(t)
	needRoot(t, "give files away")
	dir := t.TempDir()
	path := filepath.Join(dir, "sni.map")
	target := deploy.Target{Kind: "postfix", Combined: filepath.Join(dir, "mx.pem"), SNIMap: "hash:" + path, Owner: "12345"}
	_, err := tryPlan(fresh(t, 1), target)
	refused(t, err, path, "refused", "only root may own it", "chown root")
	write(t, path, "a.example.org /etc/shadow\n", 0o600)
	own(t, path, [2]int{12345, 12345})
	_, err = tryPlan(fresh(t, 1), target)
	refused(t, err, path, "refused", "only root may own it", "chown root")
}

// TestPostfixMapReadsNoForeignFile: postmap gets the files as they were written, although another file has taken their place meanwhile.
func TestPostfixMapReadsNoForeignFile(t *testing.T) {
	fakePostmap(t)
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	write(t, victim, "precious", 0o600)
	target := deploy.Target{Kind: "postfix", Combined: filepath.Join(dir, "mx.pem"), SNIMap: "hash:" + filepath.Join(dir, "sni.map")}
	b := fresh(t, 1)
	apply(t, b, deploy.Target{Kind: "postfix", Combined: target.Combined})
	p := plan(t, b, target) // the map alone changes
	if err := os.Remove(target.Combined); err != nil {
		t.Fatal(err)
	}
	link(t, os.Symlink, victim, target.Combined)
	refused(t, p.Apply(keepNothing), filepath.Join(dir, "sni.map"), "files", "has left out", "untouched")
	for _, path := range []string{"sni.map", "sni.map.db"} {
		if text, err := os.ReadFile(filepath.Join(dir, path)); err == nil {
			t.Errorf("%s holds %q", path, text)
		}
	}
}

// TestPostfixMapThatDoesNotCompile: everything is as it was, the files that the map names too.
func TestPostfixMapThatDoesNotCompile(t *testing.T) {
	fakePostmap(t)
	for _, tt := range []struct{ kind, says string }{{"cdb", "unsupported dictionary type"}, {"hash", "has left out"}} {
		dir := t.TempDir()
		target := deploy.Target{Kind: "postfix", Combined: filepath.Join(dir, "mx.pem"), SNIMap: "hash:" + filepath.Join(dir, "sni.map")}
		key := newKey(t, bundle.EC256)
		deployAs(t, "mx", deploy.Job{Bundle: named(t, key, 1, "mx.example.org"), Target: target})
		write(t, filepath.Join(dir, "sni.map"), "mx.example.org "+dir+"/mx.pem\nbad.example.org /nonexistent\n", 0o600)
		before := snapshot(t, dir)
		target.SNIMap = tt.kind + ":" + filepath.Join(dir, "sni.map")
		p := plan(t, named(t, key, 2, "mx.example.org"), target)
		if tt.kind == "hash" { // a table that takes the files for text
			bin := t.TempDir()
			write(t, filepath.Join(bin, "postmap"), "#!/bin/sh\n[ \"$2\" = -q ] && { echo x; exit; }\n: >\"${2#*:}.db\"\n", 0o755)
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		}
		refused(t, p.Apply(keepNothing), filepath.Join(dir, "sni.map"), "files", tt.says, "untouched")
		if after := snapshot(t, dir); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}
