package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
)

// plainSheet is a sheet of 80 columns without colours.
func plainSheet(out io.Writer) sheet {
	return sheet{Writer: out, width: 80, paint: func(text, _ string) { _, _ = io.WriteString(out, text) }}
}

// The first line of a certificate says what is true: also which wanted names it lacks.
func TestFirstLineOfACertificate(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]report.Certificate{
		"mx: served\n":                                  {Name: "mx", Stage: report.Served},
		"mx: served, changed\n":                         {Name: "mx", Stage: report.Served, Changed: true},
		"mx: served, without a.example, b.example\n":    {Name: "mx", Stage: report.Served, Missing: []string{"a.example", "b.example"}},
		"mx: deployed, changed, without ns.example.org": {Name: "mx", Stage: report.Deployed, Changed: true, Missing: []string{"ns.example.org"}},
	} {
		var out bytes.Buffer
		if printCertificate(plainSheet(&out), c); !strings.HasPrefix(out.String(), want) {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
