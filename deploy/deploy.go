// Package deploy writes a bundle into the files that a mail server reads, and can take the change back.
//
// [Check] checks that the places can be written, before anything is ordered. [Make] compares what should be there with what is
// there; the [Summary] of its [Plan] describes the difference. Apply stages everything that changes in a directory beside its
// destination, complete with owner, mode and fsync, and then exchanges all of it back to back, so that at every instant each
// path holds the old or the new content (rename(2)). The old content waits in the staging directory until the end, so that
// taking a change back needs neither free space nor further descriptors. Revert restores the old content later.
//
// There are four layouts. A pair at two fixed paths cannot be exchanged at once: with a new key, certificate and key differ for
// a fraction of a millisecond; with the same key only the chain is renamed. A combined file has no such moment. A generation
// directory holds a certificate and its key, and one renamed link leads to it. An SNI map names combined files with the serial
// number in their names, and only the map is renamed: a server that opens files at each connection never meets a file that
// changes.
//
// The staging directory is below the destination's, because a mail server that watches the latter (Exim 4.95 and later)
// regards any file written there as a change. All file work goes through [os.Root], or through descriptors that it has opened.
//
// This package does not reload a server and does not ask what it reads (deploy/discover does). It refuses symbolic links at the
// destination, except those of generation directories: it would replace the link, or change its target without its owner's
// knowledge. It also refuses hard links, and directories that others can write to.
package deploy

import (
	"io/fs"

	"mxcert/acme/bundle"
)

// Target is where one bundle goes: a pair of files, one combined file, both, or a generation directory.
type Target struct {
	Kind        string // "exim", "postfix", "dovecot" or "files": whose user may own a file, the group of a new one, the form of a map
	Certificate string // path of the full chain; "" with Combined or Directory alone
	PrivateKey  string // path of the key
	Combined    string // path of key and full chain in one file; {serial} stands for the serial number if SNIMap names the file
	Directory   string // path of a link to a directory with the chain, the key and both in one file; the directories lie in Directory.generations
	SNIMap      string // path of a file that says which file to use for each name of the certificate; for Postfix the type of table may precede it (hash:/etc/postfix/sni)
	Default     bool   // the bundle is also for clients that send no name, or a name that is not in SNIMap

	Owner string      // user name or number; "" keeps the owner of a replaced file
	Group string      // group name or number; "" keeps the group of a replaced file
	Mode  fs.FileMode // 0 keeps the mode of a replaced file, without the rights of others to a key; a new file gets 0640

	Unit      string // of the mail server, for messages of deploy/discover
	Unchecked bool   // deploy/discover does not ask whether the mail server reads the files
}

// Job is a bundle and where it goes.
type Job struct {
	Bundle *bundle.Bundle
	Target Target
}
