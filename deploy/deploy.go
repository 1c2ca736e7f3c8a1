// Package deploy puts a bundle into the files that a mail server reads, and back.
//
// A [Plan] compares what should be there with what is. Apply stages every changed file in a directory beside its
// destination, complete with owner, mode and fsync, and then renames all of them back to back, so that at every instant
// each path holds the old or the new content (rename(2)). Two fixed paths cannot be exchanged at once: with a new key
// there is a moment of a fraction of a millisecond in which certificate and key differ; with the same key only the
// chain is renamed, and a combined file has no such moment at all. Revert puts the old content back.
//
// The staging directory is below the destination's, because a mail server that watches the latter (Exim 4.95 and later)
// takes any file written there for a change. All file work goes through [os.Root].
//
// Not supported: symbolic links at the destination (the link would be replaced, or its target changed behind its
// owner's back), hard links, directories that others can write to.
package deploy

import (
	"io/fs"

	"mxcert/acme/bundle"
)

// Target is where one bundle goes: a pair of files, one combined file, or both.
type Target struct {
	Kind        string      // "exim", "postfix", "dovecot" or "files": whose user may own a file, and the group of a new one
	Certificate string      // path of the full chain; "" with Combined alone
	PrivateKey  string      // path of the key
	Combined    string      // path of key and full chain in one file
	Owner       string      // user name or number; "" keeps the owner of a replaced file
	Group       string      // group name or number; "" keeps the group of a replaced file
	Mode        fs.FileMode // 0 keeps the mode of a replaced file, but for the rights of others to a key; a new file gets 0640
}

// item is one file as it should be.
type item struct {
	path    string
	content []byte
	secret  bool // it holds the private key
	target  Target
}

// items lists the files of a bundle at a target, the key before the certificate.
func (t Target) items(b *bundle.Bundle) []item {
	var list []item
	add := func(path string, content []byte, secret bool) {
		if path != "" {
			list = append(list, item{path: path, content: content, secret: secret, target: t})
		}
	}
	add(t.PrivateKey, b.KeyPEM(), true)
	add(t.Certificate, b.FullchainPEM(), false)
	add(t.Combined, b.CombinedPEM(), true)
	return list
}

// Job is a bundle and where it goes.
type Job struct {
	Bundle *bundle.Bundle
	Target Target
}
