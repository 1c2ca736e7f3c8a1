package adopt_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// trees has one certificate in the tree of each client; chain is what its full chain has, issuers what the file of the issuers has.
func trees(b *bundle.Bundle, chain, issuers string) map[string]map[string]string {
	key := string(b.KeyPEM())
	return map[string]map[string]string{
		"certbot": {"renewal/mx.conf": "server = https://ca.example/dir\n", "live/mx/fullchain.pem": chain, "live/mx/privkey.pem": key, "live/mx/chain.pem": issuers},
		"acme.sh": {"mx_ecc/mx.conf": "Le_API='https://ca.example/dir'\n", "mx_ecc/fullchain.cer": chain, "mx_ecc/mx.key": key, "mx_ecc/ca.cer": issuers},
		"lego":    {"certificates/mx.json": "{}", "certificates/mx.crt": chain, "certificates/mx.key": key, "certificates/mx.issuer.crt": issuers},

		"dehydrated": {"certs/mx/fullchain.pem": chain, "certs/mx/privkey.pem": key, "certs/mx/chain.pem": issuers},
	}
}

// A chain without its issuer gets it from the file in which the client keeps it, if that is the right one. Otherwise only the key is of
// use, and the result says so.
func TestChainWithoutItsIssuer(t *testing.T) {
	t.Parallel()
	ca, other := issuer.New(t), issuer.New(t)
	b := ca.Issue(t, life, "mx.example.org")
	leaf, issuers := string(b.LeafPEM()), string(b.ChainPEM())
	direct := x509.NewCertPool()
	direct.AddCert(b.Chain()[1])
	for _, tt := range []struct {
		what, chain, issuers string
		roots                *x509.CertPool
		length               int
		note                 string
	}{
		{"complete", leaf + issuers, issuers, nil, 2, ""},
		{"the issuer is beside it", leaf, issuers, nil, 2, "came without the certificate of its issuer \"test CA\"; mxcert takes the issuer from "},
		{"no issuer", leaf, "", nil, 1, "; mxcert does not put it in service: the next pass orders a certificate with its key"},
		{"another issuer beside it", leaf, string(other.Issue(t, life, "x").ChainPEM()), nil, 1, "mxcert does not put it in service"},
		{"another issuer in it", leaf + string(other.Issue(t, life, "x").ChainPEM()), issuers, nil, 2, "certificate 2 of the chain (\"test CA\") did not sign the one before it; mxcert takes the issuer from "},
		{"the issuer is a root that is named", leaf, "", direct, 1, ""},
	} {
		for client, files := range trees(b, tt.chain, tt.issuers) {
			store, _ := book(t)
			f := one(t, client, tree(t, files))
			f.Directory = "https://ca.example/dir"
			taken, err := take(t, store, f, adopt.Options{Roots: tt.roots})
			if err != nil || !taken.Stored {
				t.Errorf("%s, %s: %+v, %v", client, tt.what, taken, err)
				continue
			}
			lineage, record := store.Lineage(taken.Name), mustRecord(t, store, taken.Name)
			stored, err := lineage.Bundle(record.Slot("ec256").Current)
			if err != nil || len(stored.Chain()) != tt.length || stored.SPKI() != b.SPKI() {
				t.Errorf("%s, %s: %v", client, tt.what, err)
			}
			if says(t, taken.Notes, tt.note); tt.note == "" && strings.Contains(strings.Join(taken.Notes, "\n"), "issuer") {
				t.Errorf("%s, %s: %q", client, tt.what, taken.Notes)
			}
		}
	}
}

// A note says that the certificate does not lead to a root that the configuration demands.
func TestChainToAnotherRoot(t *testing.T) {
	t.Parallel()
	store, _ := book(t)
	other := x509.NewCertPool()
	other.AddCert(issuer.New(t).Issue(t, life, "x").Chain()[1])
	taken, err := take(t, store, foreign("mx", issuer.New(t).Issue(t, life, "mx.example.org")), adopt.Options{Roots: other})
	if says(t, taken.Notes, "it does not lead to a root in acme.roots_file; the next pass orders a certificate with its key"); err != nil || !taken.Stored {
		t.Errorf("%+v, %v", taken, err)
	}
}

// A note says that the certificate is of another CA than those of the configuration.
func TestAnotherCA(t *testing.T) {
	t.Parallel()
	f := foreign("mx", issuer.New(t).Issue(t, life, "mx.example.org"))
	f.Directory = "https://ca.example/dir"
	for directory, notes := range map[string]int{f.Directory: 0, "https://other.example/dir": 1} {
		store, _ := book(t)
		taken, err := take(t, store, f, adopt.Options{Directories: []string{"https://first.example/dir", directory}})
		if err != nil || len(taken.Notes) != notes || notes == 1 && !strings.Contains(taken.Notes[0], "it comes from https://ca.example/dir, which acme.directory does not name") {
			t.Errorf("%s: %+v, %v", directory, taken, err)
		}
	}
}

// What is wrong with a tree is said in words about the other client's files: which certificate, which file, and what to do.
func TestFaultsOfATree(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	b := ca.Issue(t, life, "mx.example.org")
	leaf, issuers := string(b.LeafPEM()), string(b.ChainPEM())
	for _, tt := range []struct {
		what, chain, key string
		says, hint       string
	}{
		{"glued blocks", strings.TrimSuffix(leaf, "\n") + issuers, "", "mx.crt: in line ", "insert a line break before -----BEGIN in line "},
		{"the issuer first", issuers + leaf, "", "mx.crt: the certificate of the issuer (\"test CA\") stands before that of the host, which is number 2", "put the certificate of the host first"},
		{"the key of another", leaf + issuers, string(ca.Issue(t, life, "x").KeyPEM()), "mx.key: the private key does not belong", "put the key of this certificate there"},
		{"no certificate", "rubbish", "", "mx.crt: the chain contains no PEM certificate", ""},
		{"no key", leaf + issuers, "rubbish", "mx.key: there is no PEM private key", ""},
		{"no name", string(ca.Issue(t, life).FullchainPEM()), "", "mx.key: the private key does not belong", ""},
	} {
		files := trees(b, tt.chain, issuers)["lego"]
		if tt.key != "" {
			files["certificates/mx.key"] = tt.key
		}
		store, dir := book(t)
		before := listing(t, dir)
		taken, err := take(t, store, one(t, "lego", tree(t, files)), adopt.Options{})
		fault, _ := errors.AsType[*adopt.Fault](err)
		if fault == nil || taken.Stored || listing(t, dir) != before || taken.Error != err.Error() || taken.Hint != fault.Hint() {
			t.Errorf("%s: %+v, %v", tt.what, taken, err)
			continue
		}
		if !strings.Contains(taken.Error, "mx of lego: ") || !strings.Contains(taken.Error, tt.says) || !strings.Contains(taken.Hint, tt.hint) || !strings.Contains(taken.Hint, "remove it there") || strings.Contains(taken.Hint, "serial number") {
			t.Errorf("%s: %s → %s", tt.what, taken.Error, taken.Hint)
		}
	}
	nameless := ca.Issue(t, life)
	store, _ := book(t)
	if _, err := take(t, store, foreign("mx", nameless), adopt.Options{}); err == nil || !strings.Contains(err.Error(), "for no DNS name") {
		t.Errorf("%v", err)
	}
}

// A directory that cannot be read does not look empty.
func TestUnreadableTree(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	for client, files := range trees(b, string(b.FullchainPEM()), "") {
		root := tree(t, files)
		for dir := root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the user below must get there
				t.Fatal(err)
			}
		}
		if os.Geteuid() != 0 {
			closed := filepath.Join(root, map[string]string{"certbot": "renewal", "acme.sh": "mx_ecc", "lego": "certificates", "dehydrated": "certs"}[client])
			if err := os.Chmod(closed, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(closed, 0o700) }) //nolint:gosec // so that it can be removed
		}
		var err error
		asNobody(t, func() { _, err = adopt.Read(client, root, "") })
		fault, _ := errors.AsType[*adopt.Fault](err)
		if fault == nil || !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), root) || !strings.Contains(fault.Hint(), "as root") {
			t.Errorf("%s: %v", client, err)
		}
	}
}

// asNobody does something without root's rights on files. The thread is not used again.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		do()
	}()
	<-done
}
