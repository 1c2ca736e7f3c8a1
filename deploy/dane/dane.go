// Package dane keeps TLSA records and the served keys together (RFC 6698, RFC 7671, RFC 7672): it looks at what senders may hold, refuses
// what would break mail ([Memory.Gate]), and plans the publication of records and the change of keys ([State.Plan]).
//
// Everything follows from one rule, invariant I4: the served key is in every TLSA set that a sender may hold. A [Look] asks every address of
// every authoritative server for the records of one [Owner]. [Memory] folds looks into the sets that some sender may still have in a cache.
// The gate judges a plan against all of them.
//
// There is no stored step of a rollover that could be wrong after a crash. [State] remembers what cannot be found out again: the next keys,
// the records that mxcert has added, the keys that were served before, what was asked for, and the memory of looks. From this and from the
// looks of a pass, Plan derives what to do next. So every step can be repeated, and a crash at any moment loses nothing.
//
// Hosts of a fleet share the key and its records, see [Statement], [Shared] and [Mark]. Without a fleet none of that plays a part.
//
// This package opens no connection to a mail server and reads no file. It asks DNS through package resolve only, and changes DNS through a
// [Publisher] only. Not supported: usages 0 and 1 (RFC 7672 section 3.1.3), and the publication of records other than usage 3, selector 1.
package dane

import (
	"fmt"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
)

// Mode is what mxcert does about TLSA records.
type Mode string

// The modes.
const (
	Off     Mode = "off"
	Check   Mode = "check"   // judge, and refuse a deployment that would break mail
	ByHand  Mode = "gate"    // the operator publishes; mxcert says what, waits until it sees the records, holds, and rolls
	Publish Mode = "publish" // mxcert writes the records
)

// Settings are what a configuration says about the TLSA records of one certificate.
type Settings struct {
	Mode        Mode          // never ""; unset in the configuration means Check wherever an owner has records, see [State.Effective]
	Unset       bool          // the configuration does not say: a certificate without any record then costs one question for each owner
	Ports       []int         // at least one
	Hold        time.Duration // the least time that records are seen everywhere before a key that depends on them is served
	KeyLifetime time.Duration // after which a roll begins by itself; 0: never
	Ignore      []string      // names or addresses of authoritative servers that do not count; they stay visible
	TTL         time.Duration // of records that mxcert adds
	Elsewhere   bool          // another host of the fleet looks after the records, so ours stay whatever the mode is here
}

// Owner is where the TLSA records of one port of one host are (RFC 7672 section 2.2).
type Owner struct {
	Host string // a TLSA base domain: lower case, without the final dot
	Port int
}

// Name returns the owner name, such as _25._tcp.mx.example.org.
func (o Owner) Name() string { return fmt.Sprintf("_%d._tcp.%s", o.Port, o.Host) }

// Record returns the record 3 1 1 of a key, by its [bundle.Bundle.SPKI].
func Record(spki string) resolve.TLSA {
	t, _ := resolve.ParseTLSA("3 1 1 " + spki)
	return t
}

// KeyOf is a public key of one type, as records name it.
type KeyOf struct {
	Type bundle.KeyType
	SPKI string // lower-case hexadecimal SHA-256 digest
	DER  []byte // SubjectPublicKeyInfo; nil if only the digest is known
}
