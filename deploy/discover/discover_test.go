package discover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/deploy"
)

// program puts a program into PATH that says what the real one was seen to say.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// fakeExim answers as Exim 4.96 of Debian 12 does.
func fakeExim(t *testing.T, certificate, key, expanded, configFile string) {
	t.Helper()
	program(t, "exim4", `
for a; do case "$a" in -DMAIN_TLS_CERTKEY=*) certkey=${a#*=};; -DMAIN_TLS_CERTIFICATE=*) cert=${a#*=};; -DMAIN_TLS_PRIVATEKEY=*) key=${a#*=};; esac; done
case "$*" in
*"-bP config_file"*) echo "`+configFile+`";;
*-bP*) cat <<'END'
tls_ocsp_file = 
tls_advertise_hosts = *
exim_user = Debian-exim
END
	if [ -n "$certkey" ]; then echo "tls_certificate = $certkey"; echo "tls_privatekey = "
	elif [ -n "$cert" ]; then echo "tls_certificate = $cert"; echo "tls_privatekey = $key"
	else cat <<'END'
tls_certificate = `+certificate+`
tls_privatekey = `+key+`
END
	fi;;
*" -be "*) case "$4" in *tls_in_sni*) echo "not replaced" >&2; exit 3;; *mx.example.org*) echo "`+expanded+`";; *) echo "Failed: \"if\" failed and \"fail\" requested";; esac;;
*-bh*) cat "$(dirname "$0")/session";;
esac
`)
}

func look(t *testing.T, kind string, names ...string) *Server {
	t.Helper()
	s, err := Look(t.Context(), kind, Wanted{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pair, both, mapped and directory are targets of the four layouts; of is a list of them.
func pair(certificate, key string) deploy.Target {
	return deploy.Target{Certificate: certificate, PrivateKey: key}
}

func both(path string) deploy.Target { return deploy.Target{Combined: path} }

func mapped(t deploy.Target, sniMap string) deploy.Target {
	t.SNIMap = sniMap
	return t
}

func directory(path string) deploy.Target { return deploy.Target{Directory: path} }

func of(targets ...deploy.Target) []deploy.Target { return targets }

const (
	crt = "/etc/exim4/exim.crt"
	key = "/etc/exim4/exim.key"
	pem = "/etc/exim4/mx.pem"
	sni = "/etc/exim4/tls/sni.map"
)

func TestExim(t *testing.T) {
	names := []string{"mx.example.org", "host7.example.org"}
	lookup := "${lookup{${lc:$tls_in_sni}}lsearch*{" + sni + "}{$value}}"
	for _, tt := range []struct {
		what                       string
		certificate, key, expanded string
		config                     string
		targets                    []deploy.Target
		hint                       []string // nil: it is read
	}{
		{"the files of Debian", crt, key, "", debianGenerated, of(pair(crt, key)), nil},
		{"another key", crt, key, "", debianGenerated, of(pair(crt, "/etc/exim4/other.key")), []string{"MAIN_TLS_CERTIFICATE = " + crt, "MAIN_TLS_PRIVATEKEY = /etc/exim4/other.key", debianMacros, "update-exim4.conf", "unchecked: true"}},
		{"no TLS", "", "", "", debianGenerated, of(pair(crt, key)), []string{"MAIN_TLS_ENABLE = yes", "MAIN_TLS_CERTIFICATE = " + crt}},
		{"combined", pem, "", "", debianGenerated, of(both(pem)), nil},
		{"combined wanted", crt, key, "", debianGenerated, of(both(pem)), []string{"MAIN_TLS_CERTKEY = " + pem}},
		{"combined in the way", pem, "", "", debianGenerated, of(pair(crt, key)), []string{"remove MAIN_TLS_CERTKEY"}},
		{"two types of key", "/a.crt : /b.crt", "/a.key : /b.key", "", debianGenerated, of(pair("/a.crt", "/a.key"), pair("/b.crt", "/b.key")), nil},
		{"two types of key, crossed", "/a.crt : /b.crt", "/b.key : /a.key", "", debianGenerated, of(pair("/a.crt", "/a.key"), pair("/b.crt", "/b.key")), []string{"MAIN_TLS_CERTIFICATE = /a.crt : /b.crt", "MAIN_TLS_PRIVATEKEY = /a.key : /b.key"}},
		{"one type of key is missing", "/a.crt", "/a.key", "", debianGenerated, of(pair("/a.crt", "/a.key"), pair("/b.crt", "/b.key")), []string{"/a.crt : /b.crt"}},
		{"another separator", "<; /a.crt ; /b.crt", "<;/a.key;/b.key", "", debianGenerated, of(pair("/b.crt", "/b.key")), nil},
		{"expanded for a name", "${if exists{x}{$tls_in_sni}}", "", pem, debianGenerated, of(both(pem)), nil},
		{"expanded with braces", "${if exists{x}{${tls_in_sni}}}", "", pem, debianGenerated, of(both(pem)), nil},
		{"expanded to something else", "${if exists{x}{$tls_in_sni}}", "", "/other.pem", debianGenerated, of(both(pem)), []string{"MAIN_TLS_CERTKEY = " + pem}},
		{"map", lookup, "", "/etc/exim4/tls/mx.01.pem", debianGenerated, of(mapped(both("/etc/exim4/tls/mx.{serial}.pem"), sni)), nil},
		{"map wanted", crt, key, "", debianGenerated, of(mapped(both("/etc/exim4/tls/mx.{serial}.pem"), sni)), []string{"MAIN_TLS_CERTKEY = " + lookup}},
		{"directory", "/etc/exim4/tls/mx/fullchain.pem", "/etc/exim4/tls/mx/privkey.pem", "", debianGenerated, of(directory("/etc/exim4/tls/mx")), nil},
		{"directory, combined", "/etc/exim4/tls/mx/combined.pem", "", "", debianGenerated, of(directory("/etc/exim4/tls/mx")), nil},
		{"a pair and a combined file", crt, key, "", debianGenerated, of(pair("/a.crt", "/a.key"), both("/b.pem")), []string{"MAIN_TLS_CERTIFICATE = /a.crt : /b.pem", "MAIN_TLS_PRIVATEKEY = /a.key : /b.pem"}},
		{"not Debian's", crt, key, "", "/etc/exim/exim.conf", of(both(pem)), []string{"`tls_certificate = " + pem + "`", "/etc/exim/exim.conf"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			fakeExim(t, tt.certificate, tt.key, tt.expanded, tt.config)
			s := look(t, "exim", names...)
			if s.User != "Debian-exim" {
				t.Errorf("user %q", s.User)
			}
			_, err := s.Compare(tt.targets, names)
			mismatch, ok := errors.AsType[*Error](err)
			if ok != (tt.hint != nil) {
				t.Fatalf("got %v", err)
			}
			for _, word := range tt.hint {
				if !strings.Contains(mismatch.Hint(), word) {
					t.Errorf("the hint has no %q: %s", word, mismatch.Hint())
				}
			}
			if ok && (mismatch.Kind() != "not-read" || !strings.Contains(mismatch.Error(), "Exim does not read")) {
				t.Errorf("%v", mismatch)
			}
		})
	}
}

// TestLinks: Exim reads the file through a link, and a note says that it does not notice changes there.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "real.pem"), nil, 0o600), os.Symlink("real.pem", filepath.Join(dir, "link.pem"))); err != nil {
		t.Fatal(err)
	}
	fakeExim(t, filepath.Join(dir, "link.pem"), "", "", debianGenerated)
	notes, err := look(t, "exim", "mx.example.org").Compare(of(both(filepath.Join(dir, "real.pem"))), []string{"mx.example.org"})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "symbolic link") {
		t.Errorf("%q, %v", notes, err)
	}
}

// TestOtherNames: a note says that it is not known what a client gets that asks for another name of the certificate; it is no objection.
func TestOtherNames(t *testing.T) {
	fakeExim(t, "${if exists{x}{$tls_in_sni}}", "", pem, debianGenerated)
	names := []string{"mx.example.org", "host7.example.org"}
	notes, err := look(t, "exim", names...).Compare(of(both(pem)), names)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "which files Exim reads for the name host7.example.org cannot be told") {
		t.Errorf("%q, %v", notes, err)
	}
}

func TestPostfix(t *testing.T) {
	for _, tt := range []struct {
		what, says, overrides string
		targets               []deploy.Target
		hint, note            string
	}{
		{"chain files", "smtpd_tls_chain_files = /k.pem, /c.pem\nsmtpd_tls_cert_file = /x\nsmtpd_tls_security_level = may", "", of(pair("/c.pem", "/k.pem")), "", ""},
		{"one file", "smtpd_tls_chain_files =\n    /a.pem /b.pem\nsmtpd_tls_security_level = may", "", of(both("/a.pem")), "", ""},
		{"chain files win", "smtpd_tls_chain_files = /a.pem\nsmtpd_tls_cert_file = /x.crt\nsmtpd_tls_key_file = /x.key\nsmtpd_tls_security_level = may", "", of(pair("/x.crt", "/x.key")), "smtpd_tls_chain_files = /x.key, /x.crt'", ""},
		{"key after certificate", "smtpd_tls_chain_files = /c.pem, /k.pem\nsmtpd_tls_security_level = may", "", of(pair("/c.pem", "/k.pem")), "= /k.pem, /c.pem'", ""},
		{"the older settings", "smtpd_tls_cert_file = /x.crt\nsmtpd_tls_key_file = /x.key\nsmtpd_tls_eccert_file = /e.pem\nsmtpd_tls_eckey_file = /e.pem\nsmtpd_tls_security_level = may", "", of(pair("/x.crt", "/x.key"), both("/e.pem")), "", ""},
		{"no TLS", "smtpd_tls_security_level = none", "", of(both("/a.pem")), "smtpd_tls_security_level = may", "offers no TLS"},
		{"directory", "smtpd_tls_chain_files = /d/mx/combined.pem\nsmtpd_tls_security_level = may", "", of(directory("/d/mx")), "", ""},
		{"map", "smtpd_tls_chain_files = /a.pem\ntls_server_sni_maps = hash:/etc/postfix/sni\nsmtpd_tls_security_level = may", "", of(mapped(both("/a.pem"), "hash:/etc/postfix/sni")), "", ""},
		{"map wanted", "smtpd_tls_chain_files = /a.pem\nsmtpd_tls_security_level = may", "", of(mapped(both("/a.pem"), "hash:/etc/postfix/sni")), "(umask 077 && touch /etc/postfix/sni && postmap -F hash:/etc/postfix/sni) && postconf -e 'tls_server_sni_maps = hash:/etc/postfix/sni'", ""},
		{"the second in a map", "smtpd_tls_chain_files = /a.pem\ntls_server_sni_maps = hash:/etc/postfix/sni\nsmtpd_tls_security_level = may", "", of(mapped(both("/b.pem"), "hash:/etc/postfix/sni")), "", ""},
		{"another map", "smtpd_tls_chain_files = /a.pem\ntls_server_sni_maps = inline:{ {a = b} }, hash:/etc/postfix/other\nsmtpd_tls_security_level = may", "", of(mapped(both("/b.pem"), "hash:/etc/postfix/sni")), "'tls_server_sni_maps = inline:{ {a = b} }, hash:/etc/postfix/other, hash:/etc/postfix/sni'", ""},
		{"a map, and no certificate", "tls_server_sni_maps = hash:/etc/postfix/sni\nsmtpd_tls_security_level = may", "", of(mapped(both("/b.pem"), "hash:/etc/postfix/sni")), "postconf -e 'smtpd_tls_chain_files = /b.pem' && systemctl", ""},
		{"a service of its own", "smtpd_tls_chain_files = /a.pem\nsmtpd_tls_security_level = may", "submission/inet/smtpd_tls_chain_files = /s.pem", of(both("/a.pem")), "", "submission/inet"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			program(t, "postconf", "[ \"$1\" = -M ] && { echo 'submission inet n - y - - smtpd'; exit; }\n[ \"$1\" = -P ] && { echo '"+tt.overrides+"'; exit; }\n[ \"$1\" = -x ] && cat <<'END'\n"+strings.ReplaceAll(tt.says, "=\n    ", "= ")+"\nEND\n")
			s := look(t, "postfix", "mx.example.org")
			_, err := s.Compare(tt.targets, []string{"mx.example.org"})
			mismatch, ok := errors.AsType[*Error](err)
			if ok != (tt.hint != "") || ok && !strings.Contains(mismatch.Hint(), tt.hint) {
				t.Errorf("got %v, hint %q", err, hint(err))
			}
			if notes := strings.Join(s.Notes, "\n"); (tt.note == "") != (notes == "") || !strings.Contains(notes, tt.note) {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

func hint(err error) string {
	if h, ok := errors.AsType[*Error](err); ok {
		return h.Hint()
	}
	return ""
}

func TestDovecot(t *testing.T) {
	names, targets := []string{"mx.example.org"}, of(pair("/mx.crt", "/mx.key"))
	for _, tt := range []struct {
		what, global, named string
		targets             []deploy.Target
		hint, note          string
	}{
		{"read", "yes\n</mx.crt\n</mx.key\n\n", "yes\n</mx.crt\n</mx.key\n\n", targets, "", ""},
		{"two types of key", "yes\n</mx.crt\n</mx.key\n</rsa.crt\n</rsa.key\n", "yes\n</mx.crt\n</mx.key\n</rsa.crt\n</rsa.key\n", of(pair("/mx.crt", "/mx.key"), pair("/rsa.crt", "/rsa.key")), "", ""},
		{"a block of its own", "yes\n</mx.crt\n</mx.key\n\n", "yes\n</block.crt\n</block.key\n\n", targets, "`ssl_cert = </mx.crt`, `ssl_key = </mx.key`", ""},
		{"a block that inherits", "yes\n</all.crt\n</all.key\n</rsa.crt\n</rsa.key\n", "yes\n</mx.crt\n</mx.key\n</rsa.crt\n</rsa.key\n", targets, "", "inherits ssl_alt_cert = </rsa.crt"},
		{"no TLS", "no\n\n\n\n\n", "no\n\n\n\n\n", targets, "ssl_cert", "offers no TLS"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			program(t, "doveconf", "case \"$*\" in *local_name=*) echo 'doveconf: Fatal: -f local_name: Unknown filter key' >&2; exit 89;; \"-f lname=mx.example.org \"*) printf '"+tt.named+"';; *) printf '"+tt.global+"';; esac\n")
			s := look(t, "dovecot", "mx.example.org")
			_, err := s.Compare(tt.targets, names)
			if (err == nil) != (tt.hint == "") || !strings.Contains(hint(err), tt.hint) {
				t.Errorf("got %v, hint %q", err, hint(err))
			}
			if notes := strings.Join(s.Notes, "\n"); (tt.note == "") != (notes == "") || !strings.Contains(notes, tt.note) {
				t.Errorf("notes %q", notes)
			}
		})
	}
	t.Run("2.4", func(t *testing.T) {
		// As doveconf 2.4.1 says it.
		program(t, "doveconf", "case \"$*\" in *lname=*) echo 'doveconf: Fatal: -f lname: Unknown filter key' >&2; exit 89;; *ssl_cert*) echo yes;;\n"+
			"'-f local_name=mx.example.org '*) printf 'ssl = yes\nssl_server {\n  alt_cert_file = /rsa.crt\n  alt_key_file = /rsa.key\n  cert_file = /mx.crt\n  key_file = /mx.key\n}\n';;\n"+
			"*) printf 'ssl = yes\nssl_server {\n  alt_cert_file = /rsa.crt\n  alt_key_file = /rsa.key\n  cert_file = /all.crt\n  key_file = /all.key\n}\n';; esac\n")
		if s := look(t, "dovecot", "mx.example.org"); len(s.reads["mx.example.org"]) != 2 || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "inherits ssl_server_alt_cert_file = /rsa.crt") {
			t.Errorf("%+v, notes %q", s.reads, s.Notes)
		}
		if _, err := look(t, "dovecot", "mx.example.org").Compare(targets, names); err != nil {
			t.Error(err)
		}
		if _, err := look(t, "dovecot", "mx.example.org").Compare(of(pair("/o.crt", "/o.key")), names); !strings.Contains(hint(err), "`ssl_server_cert_file = /o.crt`, `ssl_server_key_file = /o.key`") {
			t.Errorf("%v, hint %q", err, hint(err))
		}
	})
}

func TestAbsent(t *testing.T) {
	if _, err := find("mxcert-has-no-such-program"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if _, err := Look(t.Context(), "files", Wanted{}); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if err := Sound(t.Context(), "files"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}

func TestProgramsThatMisbehave(t *testing.T) {
	program(t, "postconf", "echo 'postconf: fatal: main.cf, line 48: missing' >&2; exit 1\n")
	_, err := Look(t.Context(), "postfix", Wanted{})
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), "line 48") || e.Kind() != "discovery" || !strings.Contains(e.Hint(), "postconf -x") {
		t.Errorf("%v", err)
	}
	program(t, "postconf", "yes | head -c 4000000\n")
	if _, err := Look(t.Context(), "postfix", Wanted{}); err != nil {
		t.Errorf("a program that says a lot: %v", err)
	}
	program(t, "postconf", "trap '' TERM; sleep 600 & sleep 600\n")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Look(ctx, "postfix", Wanted{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Minute {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	program(t, "exim4", "echo '\x1b[2J = surprise'\n")
	if _, err := Look(t.Context(), "exim", Wanted{}); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
	t.Setenv("SECRET", "x")
	program(t, "postconf", "echo \"smtpd_tls_cert_file = /${SECRET:-none}\"\n")
	if s := look(t, "postfix"); s.text("") != "/none" {
		t.Errorf("the program got our environment: %s", s.text(""))
	}
}

func TestSound(t *testing.T) {
	for _, tt := range []struct{ kind, name, script, says string }{
		{"exim", "exim4", "echo Exim version 4.96", ""},
		{"exim", "exim4", "echo '2026-11-24 11:34:07 Exim configuration error in line 960 of /x:\n  option \"rubbish\" unknown' >&2; echo Exim version 4.96; exit 1", `Exim configuration error in line 960 of /x: option "rubbish" unknown`},
		{"postfix", "postfix", "[ \"$1\" = check ]", ""},
		{"postfix", "postfix", "echo 'postfix: fatal: /etc/postfix/main.cf, line 48: missing' >&2; exit 1", "line 48"},
		{"postfix", "postfix", "echo 'postconf: fatal: /etc/postfix/main.cf, line 48: missing attribute name' >&2; exit 1", "line 48"},
		{"exim", "exim4", "echo '2026-11-24 11:34:07 non-existent configuration file(s): /etc/exim4/exim4.conf' >&2; echo Exim version 4.96; exit 1", "non-existent configuration file"},
		{"dovecot", "doveconf", "echo x", ""},
		{"dovecot", "doveconf", "echo 'doveconf: Fatal: Error in configuration file x line 19' >&2; exit 89", "line 19"},
	} {
		program(t, tt.name, tt.script+"\n")
		err := Sound(t.Context(), tt.kind)
		unsound, ok := errors.AsType[*Error](err)
		if ok != (tt.says != "") || (err == nil) != (tt.says == "") || ok && (unsound.Kind() != "broken-configuration" || !strings.Contains(unsound.Error(), tt.says) || !strings.Contains(unsound.Hint(), "look with")) {
			t.Errorf("%s, %s: %v", tt.kind, tt.script, err)
		}
	}
}

// TestPostfixTellsSyslog: postfix check says nothing if its standard error is not a terminal.
func TestPostfixTellsSyslog(t *testing.T) {
	program(t, "postfix", "exit 1\n")
	program(t, "postconf", "echo \"postconf: fatal: /etc/postfix/main.cf, line 48: missing '=' after attribute name\" >&2; exit 1\n")
	if unsound, ok := errors.AsType[*Error](Sound(t.Context(), "postfix")); !ok || unsound.Kind() != "broken-configuration" || !strings.Contains(unsound.Error(), "line 48") {
		t.Errorf("%v", unsound)
	}
	program(t, "postconf", "exit 0\n")
	if e, ok := errors.AsType[*Error](Sound(t.Context(), "postfix")); !ok || e.Kind() != "discovery" {
		t.Error("what it complains of is not known")
	}
}

// TestSandboxed: a server's program that may not do what it wants says nothing about the configuration.
func TestSandboxed(t *testing.T) {
	program(t, "exim4", "echo 'exim: setgroups() failed: Operation not permitted' >&2; exit 1\n")
	err := Sound(t.Context(), "exim")
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind() != "discovery" || !strings.Contains(err.Error(), "setgroups") {
		t.Errorf("%v", err)
	}
}

// TestTryExim shows sessions as Exim 4.96 had them.
func TestTryExim(t *testing.T) {
	session := func(t *testing.T, text string) {
		t.Helper()
		path, err := find("exim4")
		if err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(path), "session"), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const greeting = ">>> host in hosts_connection_nolog? no (option unset)\n220 vm ESMTP Exim 4.96\n250-vm Hello\n250-STARTTLS\n250 HELP\n"
	fakeExim(t, crt, key, "", debianGenerated)
	session(t, greeting+"220 TLS go ahead\nLOG: TLS error on connection from (x) [127.0.0.1] (gnutls_handshake): Error in the pull function.\n")
	if tried, err := tryExim(t.Context(), []deploy.Pair{{Certificate: "/c.crt", Key: "/c.key"}}); !tried || err != nil {
		t.Errorf("%v, %v", tried, err)
	}
	session(t, greeting+"LOG: TLS error on connection from (x) [127.0.0.1] (cert/key setup: cert=/c.crt key=/c.key): The certificate and the given key do not match.\n454 TLS currently unavailable\n421 vm lost input connection\n")
	for _, pairs := range [][]deploy.Pair{{{Certificate: "/c.crt", Key: "/c.key"}}, {combined("/c.pem")}} {
		tried, err := tryExim(t.Context(), pairs)
		if refused, ok := errors.AsType[*Error](err); !ok || !tried || refused.Kind() != "refused-by-server" || !strings.Contains(refused.Error(), "given key do not match") {
			t.Errorf("%v, %v", tried, err)
		}
	}
	session(t, "220 vm ESMTP\n250 HELP\n503 STARTTLS command used when not advertised\n")
	if tried, err := tryExim(t.Context(), []deploy.Pair{{Certificate: "/c.crt", Key: "/c.key"}}); tried || err != nil {
		t.Errorf("without STARTTLS: %v, %v", tried, err)
	}
	program(t, "exim4", "[ \"$1\" = -bP ] || exit 1; echo 'tls_certificate = /fixed'\n")
	if tried, err := tryExim(t.Context(), []deploy.Pair{{Certificate: "/c.crt", Key: "/c.key"}}); tried || err != nil {
		t.Errorf("a configuration without the macros: %v, %v", tried, err)
	}
}

// TestTryEximStaged: only Exim's checked targets are tried, of a generation directory by its combined file.
func TestTryEximStaged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can ask")
	}
	program(t, "exim4", `for a; do case "$a" in -DMAIN_TLS_CERTKEY=*) certkey=${a#*=};; esac; done
case "$*" in
*-bh*) [ "$certkey" = /d/mx/combined.pem ] || exit 1; printf '250-STARTTLS\n454 TLS currently unavailable\n';;
*) echo "tls_certificate = $certkey";;
esac
`)
	exim, other, unchecked := directory("/d/mx"), both("/o.pem"), both("/u.pem")
	exim.Kind, other.Kind, unchecked.Kind, unchecked.Unchecked = "exim", "postfix", "exim", true
	if e, ok := errors.AsType[*Error](TryExim(t.Context(), of(other, exim, unchecked))); !ok || e.Kind() != "refused-by-server" || e.Hint() == "" {
		t.Errorf("got %v", e)
	}
	if err := TryExim(t.Context(), of(other, unchecked)); err != nil {
		t.Errorf("there is nothing to try: %v", err)
	}
}

// TestMacrosFile: with a split configuration the advice names the file that the Ansible role writes, too.
func TestMacrosFile(t *testing.T) {
	role, err := os.ReadFile("../../packaging/ansible/roles/mxcert/tasks/exim.yml")
	if err != nil {
		t.Fatal(err)
	}
	for settings, want := range map[string]string{"dc_use_split_config='true'\n": "/etc/exim4/conf.d/main/000_mxcert_macros", "dc_use_split_config='false'\n": "/etc/exim4/exim4.conf.localmacros", "": "/etc/exim4/exim4.conf.localmacros"} {
		path := filepath.Join(t.TempDir(), "update-exim4.conf.conf")
		if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := macrosFile(path); got != want || !strings.Contains(string(role), "'"+want+"'") {
			t.Errorf("%q: %s, want %s, and in the role", settings, got, want)
		}
	}
}

func TestEximList(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, "/a": {"/a"}, "/a:/b": {"/a", "/b"}, " /a : /b ": {"/a", "/b"}, "<;/a;/b": {"/a", "/b"}, "<, /a:x, /b": {"/a:x", "/b"}, "/a::b : /c": {"/a:b", "/c"},
	} {
		if got := eximList(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzEximList(f *testing.F) {
	f.Add("<; /a ; /b")
	f.Fuzz(func(t *testing.T, text string) {
		for _, part := range eximList(text) {
			if strings.TrimSpace(part) != part || part == "" {
				t.Errorf("%q: %q", text, part)
			}
		}
		mapsIn(text)
		mapList(text)
		if end := closing(text, 0); end >= 0 && text[end] != '}' {
			t.Errorf("%q is closed at %d", text, end)
		}
		f := newEximFile("/f", text, true)
		macroEdit{own: f}.apply("/a.crt", "/a.key")
		again := newEximFile("/f", f.text(), true)
		macroEdit{own: again}.apply("/a.crt", "/a.key")
		if again.changed() {
			t.Errorf("%q: a second change: %+v", text, again.hunks)
		}
		chainFiles(text)
		settings(text)
	})
}
