package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/ct"
	"mxcert/acme/ct/sct"
	"mxcert/acme/finding"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// mostInput limits what is read of the input, in bytes.
const mostInput = 1 << 20

func (a *app) ctOursCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ours [FILE]", Short: "Did we order this certificate?", Args: cobra.MaximumNArgs(1),
		Long: `Reads a certificate or pre-certificate, in PEM or DER, from FILE or standard input, and says whether it is ours: whether mxcert has
ordered it, it is for a key of mxcert, a file of ct.ours has it or its key, or you have accepted it. Of a chain, the first counts.

Exit codes: 0 ours, 3 not ours, 1 the input is no certificate. /usr/share/doc/mxcert/examples/certspotter is a hook for certspotter(8).`,
		Example: `  mxcert ct ours "$CERT_FILENAME" || echo "somebody else ordered it"`,
		RunE: func(_ *cobra.Command, args []string) error {
			file := "-"
			if len(args) > 0 {
				file = args[0]
			}
			return a.ctOurs(file)
		},
	}
}

// oursReport is `ct ours --json`.
type oursReport struct {
	Ours           bool   `json:"ours"`
	Serial         string `json:"serial"`
	SPKI           string `json:"spki_sha256"`
	TBS            string `json:"tbs_sha256"`
	Precertificate bool   `json:"precertificate"`
	Reason         string `json:"reason"`
}

func (a *app) ctOurs(file string) error {
	text, err := readInput(file) // before the process loses the right to read it
	if err != nil {
		return err
	}
	certificates := ct.Certificates(text)
	if len(certificates) == 0 {
		return &hinted{text: "ct ours: the input has no certificate in PEM or DER", hint: "give the file that certspotter names in CERT_FILENAME"}
	}
	config, err := a.load()
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // no chain is checked here
	store, err := view(host.State)
	if err != nil {
		return err
	}
	leaf := certificates[0]
	r := oursReport{Serial: bundle.SerialOf(leaf), SPKI: bundle.SPKIOf(leaf.RawSubjectPublicKeyInfo), TBS: sct.Hash(leaf), Precertificate: sct.IsPrecertificate(leaf)}
	known, unread := ct.Collect(store, host.Transparency().Ours)
	memory, forgotten := ct.Read(store)
	r.Ours, r.Reason = memory.Knows(ct.FromCertificate(leaf), known)
	code := report.CodeOK
	if !r.Ours {
		code = report.CodeFault
		for _, err := range []error{unread, forgotten} {
			if err != nil {
				r.Reason += "; not everything could be read: " + finding.Line(err)
			}
		}
	}
	return a.finish(answer{document: r, code: code, print: func(out sheet) {
		word := map[bool]string{true: "ours", false: "not ours"}[r.Ours]
		out.text(2, "%s: %s, serial %s", word, r.Reason, r.Serial)
	}})
}

// readInput reads a file, or standard input for "-".
func readInput(file string) ([]byte, error) {
	var from io.Reader = os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, mostInput+1))
	if err == nil && len(text) > mostInput {
		err = fmt.Errorf("%s: a certificate has at most %d KB", file, mostInput>>10)
	}
	return text, err
}
