package dnsupdate

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const defaultTimeout = 10 * time.Second

// New makes a client from the variables NAMESERVER ("host" or "host:port"; without it the caller has to set Server),
// TSIG_KEY, TSIG_SECRET (base64) and TSIG_ALGORITHM, or TSIG_FILE (a key file as tsig-keygen writes it) instead of these
// three, and DNS_TIMEOUT (seconds), each behind DNSUPDATE_ or RFC2136_. Other variables are ignored. The error is an
// [*Error].
func New(env map[string]string) (Client, error) {
	get := func(name, fallback string) string {
		return cmp.Or(env["DNSUPDATE_"+name], env["RFC2136_"+name], fallback)
	}
	c := Client{
		Server: withPort(get("NAMESERVER", "")), timeout: defaultTimeout,
		keyName: get("TSIG_KEY", ""), secret: get("TSIG_SECRET", ""), algorithm: get("TSIG_ALGORITHM", dns.HmacSHA256),
	}
	if file := get("TSIG_FILE", ""); file != "" {
		if err := c.readKey(file); err != nil {
			return Client{}, err
		}
	}
	if text := get("DNS_TIMEOUT", ""); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > 86400 {
			return Client{}, settingError("DNSUPDATE_DNS_TIMEOUT", fmt.Sprintf("%.40q is not a number of seconds from 1 to 86400", text), "correct the value")
		}
		c.timeout = time.Duration(seconds) * time.Second
	}
	return c, c.checkKey()
}

func withPort(server string) string {
	if server == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), "53")
}

// readKey reads name, algorithm and secret of a key from a file as tsig-keygen writes it.
func (c *Client) readKey(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return settingError("DNSUPDATE_TSIG_FILE", err.Error(), "correct the path or the mode of the file")
	}
	words := strings.FieldsFunc(string(content), func(r rune) bool { return strings.ContainsRune(" \t\r\n;{}\"", r) })
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "key":
			c.keyName = words[i+1]
		case "algorithm":
			c.algorithm = words[i+1]
		case "secret":
			c.secret = words[i+1]
		}
	}
	return nil
}

// checkKey refuses a key that cannot work, and writes its names as they are sent.
func (c *Client) checkKey() error {
	if c.keyName == "" || c.secret == "" {
		return settingError("DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET", "both are needed: mxcert does not send unsigned updates",
			"make a key on the name server (tsig-keygen mxcert.) and give it the right to change the records in question")
	}
	if _, ok := dns.IsDomainName(c.keyName); !ok || strings.ContainsAny(c.keyName, " \t\"") {
		return settingError("DNSUPDATE_TSIG_KEY", fmt.Sprintf("%.80q cannot be the name of a key", c.keyName), "write the name as the name server has it, for example mxcert.")
	}
	c.keyName, c.algorithm = dns.CanonicalName(c.keyName), dns.CanonicalName(c.algorithm)
	switch c.algorithm {
	case dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512:
	default:
		return settingError("DNSUPDATE_TSIG_ALGORITHM", fmt.Sprintf("%.40q is not supported", c.algorithm), "use hmac-sha256., hmac-sha384. or hmac-sha512.")
	}
	if _, err := base64.StdEncoding.DecodeString(c.secret); err != nil {
		return settingError("DNSUPDATE_TSIG_SECRET", "it is not base64", "copy the secret as tsig-keygen prints it, between the quotes")
	}
	return nil
}
