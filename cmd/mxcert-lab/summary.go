package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
)

// ready is the content of the ready file.
type ready struct {
	Config      string   `json:"config"`
	Directory   string   `json:"directory"`
	CA          string   `json:"ca"` // URL of the ACME directory
	NameServers []string `json:"name_servers"`
	SMTP        string   `json:"smtp"`
}

func addresses(l *lab.Lab) ready {
	return ready{
		Config: l.Path("mxcert.yaml"), Directory: l.Directory, CA: l.CA.DirectoryURL(), NameServers: l.NameServers(), SMTP: l.SMTP.Address(),
	}
}

// summary tells a person what runs and what to do next.
func summary(l *lab.Lab, validity, preload time.Duration) string {
	reading := "at each connection"
	if preload > 0 {
		reading = fmt.Sprintf("once, and again %s after a change", preload)
	}
	host, port, _ := net.SplitHostPort(l.Primary.Address()) // the server's own address has both
	var text strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&text, format+"\n", values...) }
	line("The lab is up in %s", l.Directory)
	line("")
	line("  CA     %s", l.CA.DirectoryURL())
	line("         certificates live %s", lifetime(validity))
	line("  DNS    %s", strings.Join(l.NameServers(), " "))
	line("         zones example.org and example.com, updates with the TSIG key %s", lab.KeyName)
	line("  SMTP   %s", l.SMTP.Address())
	line("         reads its files in %s %s", l.Path("tls"), reading)
	line("")
	line("Continue in another terminal:")
	line("")
	line("  mxcert -c %s renew --now", quote(l.Path("mxcert.yaml")))
	line("  mxcert -c %s verify", quote(l.Path("mxcert.yaml")))
	line("  openssl s_client -starttls smtp -connect %s -servername mx.example.org -CAfile %s </dev/null",
		l.SMTP.Address(), quote(l.Path("roots.pem")))
	line("  dig @%s -p %s _acme-challenge.mx.example.org TXT", host, port)
	line("")
	line("Ctrl-C ends it.")
	return text.String()
}

// lifetime writes whole days as days.
func lifetime(d time.Duration) string {
	if day := 24 * time.Hour; d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// quote makes a path one word of a shell.
func quote(path string) string {
	path = filepath.Clean(path)
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
