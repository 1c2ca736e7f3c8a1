package verdict

// pkix judges a sender that delivers only to a trusted certificate with the MX name (Postfix at level verify, Exim with tls_verify_hosts).
func (j *judge) pkix() Verdict {
	if v := j.unreached(); v != nil {
		return *v
	}
	s := j.with(j.Host)
	if !s.made {
		return notJudged("mxcert made no handshake in which it sent the name %s", j.Host)
	}
	if v := j.noTLS(PKIX, s); v != nil {
		return *v
	}
	bad, h := j.worst(s)
	switch {
	case bad.reason != "":
		j.acceptedAnyway(h.Shown.Chain, bad)
		j.severalChains(PKIX, s, func(h Handshake) bool { return j.trusted(h.Shown.Chain).ok() })
		return fail(Skip, bad.kind, "a sender that checks certificates refuses %s of %s: %s", s.which(h), j.who(), bad.reason)
	case bad.odd != "":
		return j.odd(h.ServerName, bad.odd)
	case s.unclear() != nil:
		return j.foreign(s.unclear())
	}
	j.refusedAnyway(s)
	return pass(Deliver, "%s has a trusted certificate for its name", j.who())
}

// worst checks each chain against the trusted roots and the MX name, and returns the first that is wrong, otherwise one that is odd.
func (j *judge) worst(s session) (check, Handshake) {
	var odd check
	var oddly Handshake
	for _, h := range s.shown {
		switch c := j.trusted(h.Shown.Chain); {
		case c.reason != "":
			return c, h
		case c.odd != "" && odd.odd == "":
			odd, oddly = c, h
		}
	}
	return odd, oddly
}

// trusted checks one chain for the MX name.
func (j *judge) trusted(sent []*certificate) check {
	if c := j.toRoot(sent); c.reason != "" {
		return c
	} else if named(sent[0], j.Host) {
		return c
	}
	c := wrong(typeName, "it is not valid for %s, but for %s", j.Host, has(sent[0]))
	if namedByCN(sent[0], j.Host) {
		c.reason = "it has " + j.Host + " only as the common name, which is not looked at (RFC 9525)"
	}
	return c
}

// toRoot checks one chain against the trusted roots, once.
func (j *judge) toRoot(sent []*certificate) check {
	id := key(sent)
	c, known := j.paths[id]
	if !known {
		if c = path(sent, j.Roots, j.At); j.paths == nil {
			j.paths = map[string]check{}
		}
		j.paths[id] = c
	}
	return c
}
