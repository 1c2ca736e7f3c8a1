// Package deploy writes a bundle into the files that a mail server reads, and can put the old files back.
//
// [Check] finds out whether the places can be written, before mxcert orders anything. [Make] compares the files that should be there with
// those that are. Its result is a [Plan], and [Summary] says what the plan would change. [Plan.Apply] makes the changes; [Plan.Revert]
// undoes them later.
//
// Apply first writes everything that changes into a staging directory next to the destination, complete with owner, mode and fsync. Then it
// exchanges new and old files, one right after the other. So at every moment each path holds either the old or the new content (rename(2)).
// The old files wait in the staging directory until the end, so undoing a change needs neither disk space nor file descriptors.
//
// There are four layouts:
//
//   - A pair is two files at fixed paths. They cannot be exchanged at the same moment. With a new key, certificate and key do not match for
//     a fraction of a millisecond. With the same key, only the chain is renamed.
//   - A combined file holds both, so they always match.
//   - A generation directory holds a certificate and its key, and one link leads to it. Only the link is renamed.
//   - An SNI map names combined files, which have the serial number in their names. Only the map is renamed. A server that opens its files
//     at each connection never sees a file that changes.
//
// The staging directory is below the destination's directory, because a mail server that watches the latter (Exim 4.95 and later) takes
// every file written there as a change. All file operations go through [os.Root], or through descriptors that it opened.
//
// A target may have a file with the CA's OCSP response for the certificate (see deploy/ocsp). It is taken away before the certificate changes,
// and the new one is put in place after that, so that it never is of another certificate. A copy beside it changes with the certificate.
//
// The package does not reload a server, and does not ask which files it reads; deploy/discover does that. At the destination it refuses
// hard links, directories that others can write to, and symbolic links, except those of generation directories. With a symbolic link it
// would either replace the link, or change its target without the knowledge of the target's owner. On the way to the destination, root
// follows only links of root, and links of the configured owner to directories of that owner. If root works for another user,
// [Target.Distrusted] names that user, and the package refuses everything below directories that the user can write.
package deploy

import (
	"crypto/x509"
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
	SNIMap      string // path of a file with a line for each name of the certificate: the file to use; for Postfix perhaps with the type of table in front (hash:/etc/postfix/sni)
	OCSP        string // path of a file with the OCSP response for the certificate, beside which is a copy (see ServedSuffix); "" if the server sends none
	Default     bool   // the bundle is also for clients that ask for no name, or for one that is not in SNIMap

	Owner string      // user name or number; "" keeps the owner of a replaced file
	Group string      // group name or number; "" keeps the group of a replaced file
	Mode  fs.FileMode // 0 keeps the mode of a replaced file, without the rights of others to a key; a new file gets 0640

	// Distrusted is a user who must not gain rights by a deployment that root makes for that user; "" if there is none. Files below directories
	// that the user can write are refused, and so are the user's links and, without Owner, the user's files.
	Distrusted string

	Unit      string // of the mail server, for messages of deploy/discover
	Unchecked bool   // deploy/discover does not check whether the mail server reads the files
}

// Job is a bundle and where it goes.
type Job struct {
	Bundle *bundle.Bundle
	Target Target
	Names  []string       // that the configuration wants; no other name of the bundle gets a line in an SNI map
	Roots  *x509.CertPool // that the configuration requires; nil: those of the system, and the issuers of the bundle
	Staple []byte         // the OCSP response for Target.OCSP; nil if there is none that a server may send: then the file must not exist
}
