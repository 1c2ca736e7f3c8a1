package adopt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"mxcert/acme/bundle"
)

// Fault is why a tree, or one certificate of it, cannot be taken over. It unwraps to the cause.
type Fault struct {
	message, hint string
	cause         error
}

// Error says what is wrong, and with which file.
func (f *Fault) Error() string { return f.message }

// Hint says what to do about it.
func (f *Fault) Hint() string { return f.hint }

// Unwrap returns the cause; nil if there is no other.
func (f *Fault) Unwrap() error { return f.cause }

// unreadable is the fault of a whole tree.
func unreadable(client, path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Fault{cause: err, message: fmt.Sprintf("there is no tree of %s: %v", client, err),
			hint: fmt.Sprintf("if %s keeps its files elsewhere, name that directory: mxcert import %[1]s PATH", client)}
	}
	hint := fmt.Sprintf("%s must be the directory in which %s keeps its files", path, client)
	if errors.Is(err, fs.ErrPermission) {
		hint = "run the import as root: keys of the other client are readable for root only"
	}
	return &Fault{cause: err, message: fmt.Sprintf("the tree of %s below %s cannot be read: %v", client, path, err), hint: hint}
}

// nothing is the fault of a tree without a certificate.
func nothing(client, path string) error {
	where := map[string]string{
		certbot: "mxcert looks for renewal/NAME.conf",
		acmeSh:  "mxcert looks for NAME/NAME.conf and NAME_ecc/NAME.conf, also below the CERT_HOME that account.conf names",
		lego:    "mxcert looks for certificates/NAME.crt",

		dehydrated: "mxcert looks for certs/NAME/privkey.pem",
		uacme:      "mxcert looks for NAME/cert.pem",
	}[client]
	return &Fault{message: fmt.Sprintf("there is no certificate of %s below %s", client, path),
		hint: fmt.Sprintf("%s; if %s keeps its files elsewhere, name that directory: mxcert import %[2]s PATH", where, client)}
}

// broken is the fault of one certificate: which one, and how it can be left out.
func broken(f Foreign, err error) error {
	if _, done := errors.AsType[*Fault](err); done {
		return err
	}
	return f.fault(err, "", "%v", err)
}

// fault describes what is wrong with one certificate. hint is what repairs it; after it comes what always helps.
func (f Foreign) fault(cause error, hint, format string, values ...any) *Fault {
	remove := map[string]string{
		certbot: "certbot delete --cert-name " + f.Name,
		acmeSh:  "acme.sh --remove -d " + f.Name + ", and its directory",
		lego:    "the files of that name",

		dehydrated: "its directory, and its line in domains.txt",
		uacme:      "its directory, and that below private",
	}[f.Client]
	if hint != "" {
		hint += ", and import again; "
	}
	hint += fmt.Sprintf("if nothing uses this certificate, remove it there (%s); mxcert renew orders one with a new key", remove)
	if errors.Is(cause, fs.ErrPermission) {
		hint = "run the import as root: keys of the other client are readable for root only"
	}
	return &Fault{cause: cause, hint: hint, message: fmt.Sprintf("%s of %s: ", f.Name, f.Client) + fmt.Sprintf(format, values...)}
}

// parseFault explains why chain and key make no bundle, in words about the other client's files.
func (f Foreign) parseFault(err error) error {
	if line := gluedLine(f.Chain.PEM); line > 0 {
		return f.fault(err, fmt.Sprintf("insert a line break before -----BEGIN in line %d", line), "%s: in line %d two PEM blocks are glued together, so that no program can read them", f.Chain.File, line)
	}
	chain, chainErr := bundle.ParseChain(f.Chain.PEM)
	if chainErr != nil {
		return f.fault(chainErr, "", "%s: %v", f.Chain.File, chainErr)
	}
	key, keyErr := bundle.ParseKey(f.Key.PEM)
	if keyErr != nil && bytes.Contains(f.Key.PEM, []byte("ENCRYPTED")) {
		return f.fault(keyErr, fmt.Sprintf("decrypt it there, which asks for its password: openssl pkey -in %[1]s -out %[1]s.plain && mv %[1]s.plain %[1]s", f.Key.File), "%s: the private key is encrypted, so that no program can use it unattended", f.Key.File)
	}
	if keyErr != nil {
		return f.fault(keyErr, "", "%s: %v", f.Key.File, keyErr)
	}
	for i, certificate := range chain[1:] {
		if belongs(certificate.PublicKey, key) {
			return f.fault(err, "put the certificate of the host first in that file, then its issuer", "%s: the certificate of the issuer (%.80q) stands before that of the host, which is number %d",
				f.Chain.File, chain[0].Subject.CommonName, i+2)
		}
	}
	return f.fault(err, "put the key of this certificate there", "%s: %v (%s)", f.Key.File, err, f.Chain.File)
}

// gluedLine returns the number of the line in which one PEM block ends and the next starts; 0 if there is none. Programs that append one
// file to another make such lines if the first does not end with a line break.
func gluedLine(text []byte) int {
	for i, line := range bytes.Split(text, []byte("\n")) {
		if at := strings.Index(string(line), "-----END "); at >= 0 && strings.Contains(string(line[at:]), "-----BEGIN ") {
			return i + 1
		}
	}
	return 0
}
