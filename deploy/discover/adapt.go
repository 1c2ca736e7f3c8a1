package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/deploy"
)

// Adaptation is a change of one file of Postfix or Dovecot that makes the server read a certificate. It is not made yet: the package
// changes nothing. The server's own programs have accepted a copy of the configuration with it.
type Adaptation struct {
	ChangedFile
	Lines []string // the settings, as the file has them afterwards
}

// Adapt plans how the server comes to read exactly these pairs, one for each type of key, and tries the change on a copy of its
// configuration. The error is an *Error if the server does not accept the change, or if another part of its configuration would win. Only
// root can try.
func (r Reading) Adapt(ctx context.Context, pairs []deploy.Pair) (*Adaptation, error) {
	directory, err := os.MkdirTemp("", "mxcert-try-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	copied := filepath.Join(directory, "copy")
	a := &Adaptation{Lines: r.Settings(pairs)}
	var now Reading
	if r.Kind == kindPostfix {
		now, err = r.adaptPostfix(ctx, a, copied)
	} else {
		now, err = r.adaptDovecot(ctx, a, copied)
	}
	if err != nil {
		return nil, err
	}
	if !slices.Equal(now.Pairs, pairs) && !slices.Equal(now.Pairs, assumed(pairs)) {
		s := &Server{Kind: r.Kind, reads: map[string][]deploy.Pair{"": now.Pairs}}
		return nil, &Error{kind: kindNotRead, text: fmt.Sprintf("with %s, %s would still read %s: another part of its configuration says so", lines(a.Lines), serverName(r.Kind), s.text("")),
			hint: "change that part: " + r.ByHand(pairs)}
	}
	return a, nil
}

// assumed is what [chainPairs] makes of files that are not there yet, if there is more than one combined file.
func assumed(pairs []deploy.Pair) (list []deploy.Pair) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i].Key != pairs[i].Certificate || pairs[i+1].Key != pairs[i+1].Certificate {
			return nil
		}
		list = append(list, deploy.Pair{Certificate: pairs[i+1].Certificate, Key: pairs[i].Key})
	}
	return list
}

// Settings returns the lines that make the server read the pairs.
func (r Reading) Settings(pairs []deploy.Pair) (list []string) {
	if r.Kind == kindPostfix {
		var files []string
		for _, p := range pairs {
			if p.Key != p.Certificate {
				files = append(files, p.Key)
			}
			files = append(files, p.Certificate)
		}
		list = append(list, "smtpd_tls_chain_files = "+strings.Join(files, ", "))
		if r.Off {
			list = append(list, "smtpd_tls_security_level = may")
		}
		return list
	}
	d := r.generation
	names := [][2]string{{d.certificate, d.key}, {d.altCertificate, d.altKey}}
	for i, p := range pairs[:min(len(pairs), len(names))] {
		list = append(list, fmt.Sprintf("%s = %s%s", names[i][0], d.prefix, p.Certificate), fmt.Sprintf("%s = %s%s", names[i][1], d.prefix, p.Key))
	}
	if r.Off {
		list = append(list, "ssl = yes")
	}
	return list
}

// ByHand says how a person makes the change.
func (r Reading) ByHand(pairs []deploy.Pair) string {
	if r.Kind == kindPostfix {
		return "postconf -e '" + strings.Join(r.Settings(pairs), "' '") + "' && systemctl reload postfix"
	}
	return fmt.Sprintf("write %s at the end of %s, then: systemctl reload dovecot", lines(r.Settings(pairs)), dovecotFile(filepath.Dir(r.config), r.generation.certificate))
}

// adaptPostfix lets postconf change the copy of main.cf, and postfix check it.
func (r Reading) adaptPostfix(ctx context.Context, a *Adaptation, copied string) (now Reading, err error) {
	postconf, err := find("postconf")
	if err != nil {
		return now, err
	}
	old, err := os.ReadFile(r.config)
	if err != nil {
		return now, err
	}
	a.ChangedFile = ChangedFile{Path: r.config, Exists: true, Old: string(old)}
	if err := mirror(filepath.Dir(r.config), copied, []ChangedFile{{Path: r.config, Exists: true, New: string(old)}}); err != nil {
		return now, err
	}
	if _, _, err := run(ctx, "", postconf, append([]string{"-c", copied, "-e"}, a.Lines...)...); err != nil {
		return now, err
	}
	text, err := os.ReadFile(filepath.Join(copied, "main.cf"))
	if err != nil {
		return now, err
	}
	a.New = string(text)
	_, stderr, err := run(ctx, "", postconf, "-c", copied, "-n")
	if said := complaint(stderr); err != nil || said != "" {
		return now, r.refused(a, firstLine(said, stderr), err)
	}
	return readPostfix(ctx, copied)
}

// dovecotPart is mxcert's own file among those of Dovecot's conf.d. The last one that is read counts.
const dovecotPart = "99-mxcert.conf"

// adaptDovecot adds a file to the copy of conf.d, and lets doveconf read the copy.
func (r Reading) adaptDovecot(ctx context.Context, a *Adaptation, copied string) (now Reading, err error) {
	doveconf, err := find("doveconf")
	if err != nil {
		return now, err
	}
	root, path := filepath.Dir(r.config), r.File()
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return now, err
	}
	a.ChangedFile = ChangedFile{Path: path, Exists: err == nil, Old: string(old), New: "# Written by mxcert init: the certificate that mxcert keeps.\n" + strings.Join(a.Lines, "\n") + "\n"}
	if err := mirror(root, copied, []ChangedFile{a.ChangedFile}); err != nil {
		return now, err
	}
	file := filepath.Join(copied, filepath.Base(r.config))
	_, stderr, err := run(ctx, "", doveconf, "-c", file, "-n")
	if err != nil {
		return now, r.refused(a, firstLine(stderr), err)
	}
	return readDovecot(ctx, file)
}

func (r Reading) refused(a *Adaptation, said string, err error) error {
	if failed, ok := errors.AsType[*Error](err); ok && failed.unfinished() {
		return err
	}
	return &Error{kind: kindBroken, text: fmt.Sprintf("%s refuses %s: %s", serverName(r.Kind), lines(a.Lines), quote(said)), hint: "is its configuration valid without it? " + map[string]string{kindPostfix: "postfix check", kindDovecot: "doveconf -n"}[r.Kind]}
}
