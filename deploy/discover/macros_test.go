package discover

import (
	"strings"
	"testing"
)

// Exim refuses to define a macro twice: what is defined already is replaced.
func TestEditMacros(t *testing.T) {
	const crt, key = "/srv/mx.crt", "/srv/mx.key"
	const all = "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTIFICATE = /srv/mx.crt\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n"
	for _, tt := range []struct {
		what, text, earlier string
		certificate, key    string
		want                string
	}{
		{"an empty file", "", "", crt, key, all},
		{"all there", all, "", crt, key, all},
		{"other macros stay", "A = b\n", "", crt, key, "A = b\n" + all},
		{"no newline at the end", "A = b", "", crt, key, "A = b\n" + all},
		{"the usual paths need no macro", "", "", usualCertificate, usualKey, "MAIN_TLS_ENABLE = yes\n"},
		{"the usual paths over others", all, "", usualCertificate, usualKey, "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTIFICATE = /etc/exim4/exim.crt\nMAIN_TLS_PRIVATEKEY = /etc/exim4/exim.key\n"},
		{"TLS is on already", "MAIN_TLS_ENABLE = true\n", "", usualCertificate, usualKey, "MAIN_TLS_ENABLE = true\n"},
		{"another value", "MAIN_TLS_CERTIFICATE = /old.crt\n# mine\nMAIN_TLS_PRIVATEKEY=/old.key\nMAIN_TLS_ENABLE = 1\n", "", crt, key, "MAIN_TLS_CERTIFICATE = /srv/mx.crt\n# mine\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\nMAIN_TLS_ENABLE = 1\n"},
		{"defined and redefined", "MAIN_TLS_ENABLE = 1\nMAIN_TLS_CERTIFICATE = /a\nMAIN_TLS_CERTIFICATE == /b\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n", "", crt, key, "MAIN_TLS_ENABLE = 1\nMAIN_TLS_CERTIFICATE = /srv/mx.crt\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n"},
		{"over several lines", "MAIN_TLS_ENABLE = 1\nMAIN_TLS_CERTIFICATE = ${if x{a}\\\n  {b}}\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n", "", crt, key, "MAIN_TLS_ENABLE = 1\nMAIN_TLS_CERTIFICATE = /srv/mx.crt\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n"},
		{"in a comment", "#MAIN_TLS_CERTIFICATE = /a\n", "", crt, key, "#MAIN_TLS_CERTIFICATE = /a\n" + all},
		{"a longer name", "MAIN_TLS_CERTIFICATES = /a\n", "", crt, key, "MAIN_TLS_CERTIFICATES = /a\n" + all},
		{"under a condition", ".ifdef X\nMAIN_TLS_CERTIFICATE = /a\n.endif\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\nMAIN_TLS_ENABLE = 1\n", "", crt, key,
			".ifdef X\nMAIN_TLS_CERTIFICATE = /a\n.endif\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\nMAIN_TLS_ENABLE = 1\n.ifdef MAIN_TLS_CERTIFICATE\nMAIN_TLS_CERTIFICATE == /srv/mx.crt\n.else\nMAIN_TLS_CERTIFICATE = /srv/mx.crt\n.endif\n"},
		{"after a condition", ".ifdef X\nY = 1\n.endif\n" + strings.ReplaceAll(all, "/srv", "/old"), "", crt, key, ".ifdef X\nY = 1\n.endif\n" + all},
		{"in an earlier file", "", "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTIFICATE = /a\n", crt, key,
			".ifdef MAIN_TLS_CERTIFICATE\nMAIN_TLS_CERTIFICATE == /srv/mx.crt\n.else\nMAIN_TLS_CERTIFICATE = /srv/mx.crt\n.endif\nMAIN_TLS_PRIVATEKEY = /srv/mx.key\n"},
		{"one file", "", "", "/srv/mx.pem", "/srv/mx.pem", "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = /srv/mx.pem\n"},
		{"one file instead of another", "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = /a.pem\n", "", "/srv/mx.pem", "/srv/mx.pem", "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = /srv/mx.pem\n"},
		{"two files instead of one, which would win", "MAIN_TLS_ENABLE = yes\nMAIN_TLS_CERTKEY = /a.pem\n", "", crt, key, all},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := edited(tt.text, tt.earlier, tt.certificate, tt.key)
			if got := f.text(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if f.changed() != (tt.text != tt.want) {
				t.Errorf("changed: %v, %+v", f.changed(), f.hunks)
			}
			for _, h := range f.hunks {
				for _, line := range h.added {
					if !strings.Contains(f.text(), line+"\n") {
						t.Errorf("%q is shown as added and is not there", line)
					}
				}
			}
		})
	}
}

// The second run finds what the first one has made.
func TestEditMacrosTwice(t *testing.T) {
	for _, earlier := range []string{"", "MAIN_TLS_CERTIFICATE = /older\n"} {
		first := edited("MAIN_TLS_ENABLE = yes\n", earlier, "/srv/mx.crt", "/srv/mx.key").text()
		if f := edited(first, earlier, "/srv/mx.crt", "/srv/mx.key"); f.changed() || f.text() != first {
			t.Errorf("%q: %+v", first, f.hunks)
		}
	}
}

// edited changes one file of macros that Exim reads after another.
func edited(text, earlier, certificate, key string) *eximFile {
	own := newEximFile("/own", text, true)
	if key == certificate {
		key = ""
	}
	macroEdit{own: own, earlier: []*eximFile{newEximFile("/earlier", earlier, true)}}.apply(certificate, key)
	return own
}
