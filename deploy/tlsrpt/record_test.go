package tlsrpt

import (
	"fmt"
	"strings"
	"testing"
)

// The records of RFC 8460 section 3, those that people publish, and those that senders ignore.
func TestParseRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		texts []string
		want  string
		err   string
	}{
		"mail":           {[]string{"v=TLSRPTv1;rua=mailto:reports@example.com"}, "&{[reports@example.com] []}", ""},
		"web":            {[]string{"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"}, "&{[] [https://reporting.example.com/v1/tlsrpt]}", ""},
		"both":           {[]string{"v=TLSRPTv1; rua=mailto:a@b.example, https://c.example/ ,mailto:d%2Be@b.example;"}, "&{[a@b.example d+e@b.example] [https://c.example/]}", ""},
		"a query":        {[]string{"v=TLSRPTv1; rua=mailto:a@b.example?subject=x"}, "&{[a@b.example] []}", ""},
		"others beside":  {[]string{"verification=1", "v=TLSRPTv1; x=y; rua=mailto:a@b.example", "v=TLSRPTv2; rua=mailto:c@d.example"}, "&{[a@b.example] []}", ""},
		"none":           {nil, "<nil>", ""},
		"another record": {[]string{"v=TLSRPTv10; rua=mailto:a@b.example"}, "<nil>", ""},
		"two":            {[]string{"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@d.example"}, "", "there are 2 records"},
		"no address":     {[]string{"v=TLSRPTv1"}, "", "names no mailto: or https:"},
		"a bare address": {[]string{"v=TLSRPTv1; rua=a@b.example"}, "", "names no mailto: or https:"},
		"not encrypted":  {[]string{"v=TLSRPTv1; rua=http://a.example/"}, "", "names no mailto: or https:"},
		"garbage":        {[]string{"v=TLSRPTv1; rua=mailto:%zz@b.example,https://,://,mailto:"}, "", "names no mailto: or https:"},
	} {
		r, err := ParseRecord(c.texts)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || r != nil {
				t.Errorf("%s: %v, %v", name, r, err)
			}
			continue
		}
		if got := fmt.Sprint(r); got != c.want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
		}
	}
}

// Whatever DNS says, addresses are printable and short.
func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@b.example,https://c.example/")
	f.Add("v=TLSRPTv1;rua=mailto:\x1b%0a@b")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecord([]string{text})
		if err != nil || r == nil {
			return
		}
		for _, address := range append(r.Mail, r.Web...) {
			if address == "" || len(address) > 4*mostText || strings.ContainsAny(address, "\x1b\n\r") {
				t.Errorf("%q", address)
			}
		}
	})
}
