//go:build mailhost

package discover

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/deploy"
)

// The tests of files mailhost_*_test.go run on the mail host of packaging/e2e, with the real servers: see TestDiscoverOnTheMailHost there.

const (
	localMacros = "/etc/exim4/exim4.conf.localmacros"
	splitMain   = "/etc/exim4/conf.d/main/"
)

// put writes a file of the host and takes it back at the end of the test. An empty text removes the file.
func put(t *testing.T, path, text string) {
	t.Helper()
	old, err := os.ReadFile(path)
	t.Cleanup(func() {
		if err != nil {
			_ = os.Remove(path)
		} else {
			_ = os.WriteFile(path, old, 0o644)
		}
	})
	if text == "" {
		err := os.Remove(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// shell runs commands of a hint, or of an administrator, as they are written.
func shell(t *testing.T, commands string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", commands).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

// eximReads makes Exim's configuration from macros.
func eximReads(t *testing.T, macros string) {
	t.Helper()
	put(t, localMacros, macros)
	shell(t, "update-exim4.conf && exim4 -bV >/dev/null")
	t.Cleanup(func() { _ = exec.Command("update-exim4.conf").Run() })
}

// Expressions as they are found in the wild, expanded by the real Exim.
func TestMailhostExpressions(t *testing.T) {
	const ssl = "/etc/exim4/ssl/"
	put(t, ssl+"a.crt", "x")
	put(t, ssl+"a.key", "x")
	put(t, ssl+"host7.example.org.pem", "x")
	put(t, ssl+"map", "mx.example.org: /etc/exim4/ssl/a.pem\n*.example.org: /etc/exim4/ssl/wild.pem\n*: /etc/exim4/ssl/all.pem\n")
	put(t, ssl+"parts", "*.example.org: /etc/exim4/ssl/a.crt\n")
	put(t, ssl+"patterns", "^mx[.].*$: /etc/exim4/ssl/a.crt\n")
	put(t, "/etc/exim4/live/host7.example.org/all.pem", "x")
	const d = "/etc/exim4/exim.crt"
	a, wild, planned := combined(ssl+"a.crt"), combined(ssl+"wild.pem"), both(ssl+"mx.example.org.pem")
	for _, tt := range []struct {
		what, expression string
		target           deploy.Target
		reads            deploy.Pair // for mx.example.org; empty: it cannot be told
		other            deploy.Pair // for host7.example.org
	}{
		{"the variable before a brace", "${if eq{$tls_in_sni}{mx.example.org}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"the variable in braces", "${if eq{${tls_in_sni}}{mx.example.org}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"its old name", "${if eq{$tls_sni}{mx.example.org}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"lower case", "${if eq{${lc:$tls_in_sni}}{mx.example.org}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"defined", "${if def:tls_in_sni {" + ssl + "a.crt}{" + d + "}}", planned, a, a},
		{"not defined", "${if !def:tls_in_sni{" + d + "}{" + ssl + "a.crt}}", planned, a, a},
		{"nested conditions", "${if and{{def:tls_in_sni}{match{$tls_in_sni}{^mx[.]}}{exists{" + ssl + "a.crt}}}{${if eq{$tls_in_sni}{mx.example.org}{" + ssl + "a.crt}{/no}}}{" + d + "}}", planned, a, combined(d)},
		{"or, with a list", "${if or{{eq{$tls_in_sni}{imap.example.org}}{inlist{$tls_in_sni}{mx.example.org:x.example.org}}}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"a file by the name, which is not there yet", "${if exists{" + ssl + "${tls_sni}.pem}{" + ssl + "${tls_sni}.pem}{" + d + "}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"the same with spaces", "${if exists {" + ssl + "$tls_in_sni.pem} {" + ssl + "$tls_in_sni.pem} {" + d + "} }", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"two files by the name", "${if and{{exists{" + ssl + "$tls_in_sni.pem}}{exists{" + ssl + "a.crt}}}{" + ssl + "$tls_in_sni.pem}{" + d + "}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"no file by the name", "${if exists{" + ssl + "none.$tls_in_sni.pem}{/no}{" + d + "}}", planned, combined(d), combined(d)},
		{"a file that must not exist", "${if !exists{" + ssl + "$tls_in_sni.pem}{" + d + "}{" + ssl + "$tls_in_sni.pem}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"a directory", "${lookup{$tls_in_sni.pem}dsearch{/etc/exim4/ssl}{" + ssl + "$value}{" + d + "}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"a directory, with the path", "${lookup{${lc:$tls_in_sni}.pem}dsearch,ret=full{/etc/exim4/ssl}{$value}{" + d + "}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"a directory of directories", "${lookup{$tls_in_sni}dsearch,filter=dir{/etc/exim4/live}{/etc/exim4/live/$value/all.pem}{" + d + "}}", both("/etc/exim4/live/mx.example.org/all.pem"),
			combined("/etc/exim4/live/mx.example.org/all.pem"), combined("/etc/exim4/live/host7.example.org/all.pem")},
		{"a directory of files only", "${lookup{$tls_in_sni}dsearch,filter=file{/etc/exim4/live}{/no}{" + d + "}}", both("/etc/exim4/live/mx.example.org/all.pem"), combined(d), combined(d)},
		{"a path with directories", "${if exists{/etc/exim4/live/$tls_in_sni/all.pem}{/etc/exim4/live/$tls_in_sni/all.pem}{" + d + "}}", both("/etc/exim4/live/mx.example.org/all.pem"),
			combined("/etc/exim4/live/mx.example.org/all.pem"), combined("/etc/exim4/live/host7.example.org/all.pem")},
		{"a list of domains", "${if match_domain{$tls_in_sni}{mx.example.org : *.example.net}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"any of a list", "${if forany{<, mx.example.org, x.example.org}{eqi{$item}{$tls_in_sni}}{" + ssl + "a.crt}{" + d + "}}", planned, a, combined(d)},
		{"a part of a map", "${lookup{$tls_in_sni}partial-lsearch{" + ssl + "parts}{$value}{" + d + "}}", planned, a, a},
		{"a map of patterns", "${lookup{$tls_in_sni}nwildlsearch{" + ssl + "patterns}{$value}{" + d + "}}", planned, a, combined(d)},
		{"a fallback of a fallback", "${if exists{" + ssl + "x.$tls_in_sni}{/no}{${if exists{" + ssl + "$tls_in_sni.pem}{" + ssl + "$tls_in_sni.pem}{" + d + "}}}}", planned, combined(planned.Combined), combined(ssl + "host7.example.org.pem")},
		{"a name of its own length", "${if >{${strlen:$tls_in_sni}}{14}{" + d + "}{" + ssl + "a.crt}}", planned, a, combined(d)},
		{"a map", "${lookup{$tls_in_sni}lsearch{" + ssl + "map}{$value}{" + d + "}}", planned, combined(ssl + "a.pem"), combined(d)},
		{"a map with a default", "${lookup{${lc:$tls_in_sni}}lsearch*{" + ssl + "map}{$value}}", planned, combined(ssl + "a.pem"), combined(ssl + "all.pem")},
		{"a map with wildcards", "${lookup{$tls_in_sni}wildlsearch{" + ssl + "map}{$value}{" + d + "}}", planned, combined(ssl + "a.pem"), wild},
		{"a part of the name", "${if exists{" + ssl + "${extract{1}{.}{$tls_in_sni}}.crt}{/x}{" + ssl + "${sg{$tls_in_sni}{^mx.*}{a.crt}}}}", planned, a, combined(ssl + "host7.example.org")},
		{"the address of the connection", "${if eq{$received_ip_address}{127.0.0.1}{" + ssl + "a.crt}{" + d + "}}", planned, a, a},
		{"the port of the connection", "${if eq{$interface_port}{465}{/smtps.pem}{" + ssl + "a.crt}}", planned, a, a},
		{"first the name, then a list", "${if eq{$tls_in_sni}{mx.example.org}{" + ssl + "a.crt : " + ssl + "rsa.pem}{" + d + "}}", both(ssl + "rsa.pem"), combined(ssl + "rsa.pem"), combined(d)},

		{"a brace is missing", "${if eq{$tls_in_sni}{mx.example.org}{" + ssl + "a.crt}{" + d + "}", planned, deploy.Pair{}, deploy.Pair{}},
		{"a map that is not there", "${lookup{$tls_in_sni}lsearch{/etc/exim4/none}{$value}{" + d + "}}", planned, deploy.Pair{}, deploy.Pair{}},
		{"an unknown variable", "${if eq{$tls_in_sn}{x}{" + d + "}}", planned, deploy.Pair{}, deploy.Pair{}},
		{"it fails for other names", "${if eq{$tls_in_sni}{mx.example.org}{" + ssl + "a.crt}fail}", planned, a, deploy.Pair{}},
		{"a lookup that fails", "${lookup{x$tls_in_sni}lsearch{" + ssl + "map}{$value}fail}", planned, deploy.Pair{}, deploy.Pair{}},
		{"the client's address", "${if eq{$sender_host_address}{192.0.2.1}{" + ssl + "a.crt}{" + d + "}}", planned, deploy.Pair{}, deploy.Pair{}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			eximReads(t, "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = "+tt.expression+"\n")
			names := []string{"mx.example.org", "host7.example.org"}
			s, err := Look(t.Context(), kindExim, Wanted{Names: names, Targets: of(tt.target)})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []deploy.Pair{tt.reads, tt.other} {
				name := names[i]
				if told := s.untold[name] == ""; told != (want != deploy.Pair{}) || told && !slices.Contains(s.reads[name], want) {
					t.Errorf("for %s it reads %v, want %v (%s)", name, s.reads[name], want, s.untold[name])
				}
			}
			notes, err := s.Compare(of(tt.target), names)
			if tt.reads == combined(tt.target.Combined) != (err == nil) && (tt.reads != deploy.Pair{}) {
				t.Errorf("the target: %v", err)
			}
			if (tt.reads == deploy.Pair{}) && (err != nil || !strings.Contains(strings.Join(notes, "\n"), "cannot be told")) {
				t.Errorf("the target: %v, notes %q", err, notes)
			}
		})
	}
}

// A certificate that depends on the port or address is compared at each endpoint.
func TestMailhostEximEndpoints(t *testing.T) {
	target := both("/etc/exim4/wanted.pem")
	for _, tt := range []struct{ expression, endpoint, says string }{
		{"${if eq{$received_port}{465}{/etc/exim4/smtps.pem}{/etc/exim4/wanted.pem}}", "127.0.0.1:465", "at 127.0.0.1:465, Exim does not read /etc/exim4/wanted.pem: it reads /etc/exim4/smtps.pem"},
		{"${if eq{$received_port}{465}{/etc/exim4/smtps.pem}{/etc/exim4/wanted.pem}}", "127.0.0.1:25", ""},
		{"${if eq{$received_port}{465}{/etc/exim4/smtps.pem}{/etc/exim4/wanted.pem}}", "192.0.2.1:465", ""},
		{"${if eq{${interface_port}}{465}{/etc/exim4/wanted.pem}{/etc/exim4/wanted.pem}}", "localhost:465", ""},
		{"${if match_ip{$received_ip_address}{<; ::1}{/etc/exim4/six.pem}{/etc/exim4/wanted.pem}}", "[::1]:25", "at [::1]:25, Exim does not read"},
		{"${if match_ip{$received_ip_address}{<; ::1}{/etc/exim4/six.pem}{/etc/exim4/wanted.pem}}", "127.0.0.1:25", ""},
	} {
		eximReads(t, "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = "+tt.expression+"\n")
		w := Wanted{Names: []string{"mx.example.org"}, Targets: of(target), Endpoints: []string{tt.endpoint}}
		_, err := must(Look(t.Context(), kindExim, w)).Compare(w.Targets, w.Names)
		if (err != nil) != (tt.says != "") || err != nil && (!strings.Contains(err.Error(), tt.says) || hint(err) == "") {
			t.Errorf("%s, %s: %v", tt.expression, tt.endpoint, err)
		}
	}
}

// edit does what a hint says about a file: replace `x` by `y`; remove `x`; add `x`.
func edit(t *testing.T, file, steps string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	text := "\n" + string(content)
	quotedText := regexp.MustCompile("`([^`]*)`")
	block := func(words string) string {
		joined := "\n"
		for _, m := range quotedText.FindAllStringSubmatch(words, -1) {
			joined += m[1] + "\n"
		}
		return joined
	}
	for _, step := range strings.Split(steps, "; ") {
		verb, words, _ := strings.Cut(step, " ")
		before, after, _ := strings.Cut(words, "` by `")
		from, to := block(before+"`"), block("`"+after)
		switch verb {
		case "add":
			text = strings.TrimSuffix(text, "\n") + block(words)
			continue
		case "insert":
			text = block(words) + strings.TrimPrefix(text, "\n")
			continue
		case "remove":
			from, to = block(words), "\n"
		}
		var pattern []string // a hint shows one space for several
		for _, line := range strings.Split(strings.Trim(from, "\n"), "\n") {
			pattern = append(pattern, `[ \t]*`+strings.ReplaceAll(regexp.QuoteMeta(line), " ", `[ \t]+`))
		}
		at := regexp.MustCompile(`\n` + strings.Join(pattern, `\n`) + `\n`).FindStringIndex(text)
		if at == nil {
			t.Fatalf("%s has no %q: %s", file, from, text)
		}
		text = text[:at[0]] + to + text[at[1]:]
	}
	put(t, file, strings.TrimPrefix(text, "\n"))
}

// follow does what a hint of Exim says, and runs its commands as they are written.
func follow(t *testing.T, hint string) {
	t.Helper()
	hint, _, _ = strings.Cut(hint, "; or write `unchecked")
	steps, commands, ok := strings.Cut(hint, "; then: ")
	if !ok {
		t.Fatalf("no command: %s", hint)
	}
	for _, part := range strings.Split("; "+steps, "; in ")[1:] {
		file, words, _ := strings.Cut(part, ": ")
		edit(t, file, words)
	}
	shell(t, commands)
}

// Whatever defines the macros, the hint leads to an Exim that starts and reads the files.
func TestMailhostEximHints(t *testing.T) {
	const old, oldKey = "/etc/letsencrypt/live/mx/fullchain.pem", "/etc/letsencrypt/live/mx/privkey.pem"
	const on = "MAIN_TLS_ENABLE = yes\n"
	const macros = on + "MAIN_TLS_CERTIFICATE = " + old + "\nMAIN_TLS_PRIVATEKEY = " + oldKey + "\n"
	template, err := os.ReadFile("/etc/exim4/exim4.conf.template")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(debianSettings)
	if err != nil {
		t.Fatal(err)
	}
	split := strings.ReplaceAll(string(settings), "split_config='false'", "split_config='true'")
	literal := strings.Replace(string(template), "\nbegin acl\n", "\ntls_certificate = "+old+"\ntls_privatekey = "+oldKey+"\nbegin acl\n", 1)
	one, usual, other := both("/srv/mx.pem"), pair(crt, key), pair("/srv/mx.crt", "/srv/mx.key")
	for _, tt := range []struct {
		what   string
		files  map[string]string
		target deploy.Target
		says   string
	}{
		{"defined", map[string]string{localMacros: macros}, usual, "replace `MAIN_TLS_CERTIFICATE = " + old + "` by `MAIN_TLS_CERTIFICATE = " + crt + "`"},
		{"redefined", map[string]string{localMacros: macros + "MAIN_TLS_CERTIFICATE == /else.crt\n"}, usual, "replace"},
		{"without spaces", map[string]string{localMacros: strings.ReplaceAll(macros, " = ", "=")}, usual, "replace `MAIN_TLS_CERTIFICATE=" + old},
		{"over several lines", map[string]string{localMacros: on + "MAIN_TLS_CERTIFICATE = ${if eq{a}{b}{/b.crt}\\\n   {/c.crt}}\n"}, usual, "replace"},
		{"under a condition", map[string]string{localMacros: on + ".ifndef X\nMAIN_TLS_CERTIFICATE = " + old + "\n.endif\n"}, usual, "MAIN_TLS_CERTIFICATE == " + crt},
		{"under a condition that is not true", map[string]string{localMacros: on + ".ifdef X\nMAIN_TLS_CERTIFICATE = " + old + "\n.endif\n"}, other, "MAIN_TLS_CERTIFICATE == /srv/mx.crt"},
		{"no TLS", map[string]string{localMacros: "MY_MACRO = b\n"}, usual, "add `MAIN_TLS_ENABLE = yes`"},
		{"no file of macros", map[string]string{localMacros: ""}, other, "add `MAIN_TLS_ENABLE = yes`"},
		{"one file instead of two", map[string]string{localMacros: macros}, one, "add `MAIN_TLS_CERTKEY = /srv/mx.pem`"},
		{"one file instead of another", map[string]string{localMacros: on + "MAIN_TLS_CERTKEY = /old.pem\n"}, one, "replace"},
		{"two files instead of one", map[string]string{localMacros: on + "MAIN_TLS_CERTKEY = /old.pem\n"}, other, "remove `MAIN_TLS_CERTKEY = /old.pem`"},
		{"a map", map[string]string{localMacros: macros}, mapped(one, "/etc/exim4/sni.map"), "add `MAIN_TLS_CERTKEY = ${lookup"},
		{"in the template", map[string]string{localMacros: on, "/etc/exim4/exim4.conf.template": macros[len(on):] + string(template)}, usual, "in /etc/exim4/exim4.conf.template: replace"},
		{"without macros, in the template", map[string]string{localMacros: "MY_MACRO = b\n", "/etc/exim4/exim4.conf.template": literal}, usual, "replace `tls_certificate = " + old + "`"},
		{"without macros, for one file", map[string]string{localMacros: "MY_MACRO = b\n", "/etc/exim4/exim4.conf.template": literal}, one, "remove `tls_privatekey = " + oldKey + "`"},
		{"split", map[string]string{debianSettings: split, splitMain + "000_localmacros": macros}, usual, "in " + debianSplit},
		{"split, and defined later", map[string]string{debianSettings: split, splitMain + "02_mine": macros}, usual, "in " + splitMain + "02_mine: replace"},
		{"split, one file instead of two", map[string]string{debianSettings: split, splitMain + "000_localmacros": macros}, one, "MAIN_TLS_CERTKEY"},
		{"split, two instead of one file", map[string]string{debianSettings: split, splitMain + "000_localmacros": on + "MAIN_TLS_CERTKEY = /old.pem\n"}, other, "in " + splitMain + "000_localmacros: remove"},
		{"split, without macros", map[string]string{debianSettings: split, splitMain + "04_mine": "tls_certificate = " + old + "\n"}, other, "`tls_privatekey = /srv/mx.key`"},
		{"split, nothing", map[string]string{debianSettings: split, localMacros: macros}, usual, "add `MAIN_TLS_ENABLE = yes`"},
		{"an old hand", map[string]string{debianSettings: string(settings) + "MAIN_TLS_CERTIFICATE=" + old + "\n", localMacros: on}, other, "add `MAIN_TLS_CERTIFICATE = /srv/mx.crt`"},
		{"one configuration of the operator", map[string]string{"/etc/exim4/exim4.conf": "tls_advertise_hosts = *\ntls_certificate = " + old + "\nbegin acl\n"}, other, "in /etc/exim4/exim4.conf: replace"},
		{"one without a certificate", map[string]string{"/etc/exim4/exim4.conf": "# mine\nprimary_hostname = mx.example.org\nbegin acl\n"}, one, "in /etc/exim4/exim4.conf: insert at the top `tls_certificate = /srv/mx.pem`"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			for path, text := range tt.files {
				put(t, path, text)
			}
			t.Cleanup(func() { _ = exec.Command("update-exim4.conf").Run() })
			shell(t, "update-exim4.conf && exim4 -bV >/dev/null")
			names := []string{"mx.example.org"}
			refused := func() error {
				_, err := must(Look(t.Context(), kindExim, Wanted{Names: names, Targets: of(tt.target)})).Compare(of(tt.target), names)
				return err
			}
			text := hint(refused())
			if !strings.Contains(text, tt.says) {
				t.Errorf("the hint lacks %q:\n%s", tt.says, text)
			}
			follow(t, text)
			if err := refused(); err != nil {
				t.Errorf("after the hint %s\n%v", text, err)
			}
			shell(t, "exim4 -bV >/dev/null && systemctl is-active exim4")
		})
	}
}

func must(s *Server, err error) *Server {
	if err != nil {
		panic(err)
	}
	return s
}

// A hint that Exim refuses is not given as the way out: the words say what was tried.
func TestMailhostEximRefusesTheHint(t *testing.T) {
	eximReads(t, "MAIN_TLS_ENABLE = yes\n.ifndef NO\nMAIN_TLS_CERTIFICATE = /a.crt\n.endif\nMAIN_TLS_PRIVATEKEY = /a.key\n")
	put(t, "/etc/exim4/exim4.conf.template", "tls_advertise_hosts = *\n.ifdef MAIN_TLS_CERTIFICATE\nMAIN_TLS_CERTIFICATE == /c.crt\n.endif\ntls_certificate = MAIN_TLS_CERTIFICATE\ntls_privatekey = MAIN_TLS_PRIVATEKEY\nbegin acl\n")
	shell(t, "update-exim4.conf && exim4 -bV >/dev/null")
	_, err := must(Look(t.Context(), kindExim, Wanted{Names: []string{"mx.example.org"}})).Compare(of(pair(crt, key)), []string{"mx.example.org"})
	if text := hint(err); !strings.Contains(text, "mxcert tried") || !strings.Contains(text, "would still read /c.crt") {
		t.Errorf("%v: %s", err, text)
	}
}
