// Package configs reads mxcert.yaml and the certificates of conf.d beside it, fills in the defaults and checks
// everything that it can check without the network and without reading a secret.
//
// The format is YAML 1.2, read strictly. Load reports all faults at once, each with its line: unknown and
// duplicate keys, wrong types, bad values, contradictions between settings. A number is not text and `yes` is
// not `true`, so that you can read a file without knowing YAML's rules. Bounds: 1 MiB a file, a limit on what
// aliases expand to.
//
// Aliases (&name, *name) are accepted for whole values, because programs that write YAML use them for values
// that occur twice. Merge keys (<<), tags (!name) and several documents in a file are not supported: a
// configuration does not need them, and each makes it harder to see what a file says.
//
// The package is larger than its neighbours because position, value and message of a setting belong together:
// the code that reads a value also knows its place. The rules are in the files named after the sections (acme.go,
// certificate.go, target.go). The table in unsupported.go lists what this version does not support yet.
package configs

import (
	_ "embed"
)

//go:embed mxcert.yaml
var example []byte

// A test makes the schema from the types in config.go and their comments.
//
//go:generate go test -run ^TestSchemaIsFresh$ -update .
//go:embed schema.json
var schema []byte

// Example returns the annotated example: every key with its default and meaning.
func Example() []byte { return append([]byte(nil), example...) }

// Schema returns the JSON schema (draft 2020-12) of mxcert.yaml, for editors.
func Schema() []byte { return append([]byte(nil), schema...) }
