package configs

// DomainName returns a DNS name as lower-case A-labels (RFC 5890) without the final dot. It checks a word of the command line as the
// configuration checks its own. The error says what is wrong with it, as the end of a sentence about it.
func DomainName(s string) (string, error) { return domainName(s) }
