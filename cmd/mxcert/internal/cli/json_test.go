package cli

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/revoke"
)

// The manual page mxcert-json(7) names every field of every document.
func TestJSONManual(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../packaging/man/mxcert-json.7.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\_`, "_")
	sections := map[string]string{}
	for _, section := range strings.Split(page, "\n# ") {
		title, body, _ := strings.Cut(section, "\n")
		sections[title] = body
	}
	for title, document := range map[string]any{
		"RENEW, STATUS, DEPLOY, ROLLBACK": []any{failureReport{}, rehearsalReport{}},
		"ERRORS":                          report.Error{},
		"TLSA":                            []any{report.TLSA{}, shownTLSA{}, tlsaCheck{}, rollReport{}},
		"VERIFY":                          verifyReport{},
		"DOCTOR":                          doctorReport{},
		"NOTIFY":                          notifyReport{},
		"CHECK":                           checkReport{},
		"HISTORY":                         historyReport{},
		"TLSRPT":                          report.TLSRPT{},
		"CT":                              []any{ctReport{}, oursReport{}},
		"FLEET":                           []any{fleetReport{}, joinReport{}, recipientsReport{}, forgetReport{}},
		"REPORT":                          writtenReport{},
		"REVOKE":                          revoke.Report{},
		"ACCOUNT":                         accountsReport{},
		"IMPORT":                          treesReport{},
		"POLKIT, CONFIG SHOW":             polkitReport{},
		"VERSION":                         versionReport{},
	} {
		body, ok := sections[title]
		if !ok {
			t.Errorf("there is no section %s", title)
		}
		list, several := document.([]any)
		if !several {
			list = []any{document}
		}
		for _, one := range list {
			for _, field := range fieldsOf(reflect.TypeOf(one), map[reflect.Type]bool{}) {
				if !names(body, field) && !names(sections["RENEW, STATUS, DEPLOY, ROLLBACK"]+sections["ERRORS"]+sections["TLSA"]+sections["REVOKE"]+sections["CHECK"]+sections["TLSRPT"], field) {
					t.Errorf("section %s does not name the field %q", title, field)
				}
			}
		}
	}
}

// names reports whether a section has a field in bold, or at the start of a paragraph.
func names(section, field string) bool {
	if strings.Contains(section, "**"+field+"**") {
		return true
	}
	for _, line := range strings.Split(section, "\n") {
		for _, word := range strings.Split(line, ", ") {
			if word == field {
				return true
			}
		}
	}
	return false
}

// fieldsOf lists the JSON names of a type and of the types in it.
func fieldsOf(t reflect.Type, known map[reflect.Type]bool) (fields []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || known[t] || t.PkgPath() == "time" {
		return nil
	}
	known[t] = true
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name != "" {
			fields = append(fields, name)
		}
		fields = append(fields, fieldsOf(f.Type, known)...)
	}
	return fields
}
