// Package configs reads mxcert.yaml and the certificates of conf.d beside it, fills in the defaults and checks
// everything that can be checked without the network and without reading a secret.
//
// The format is YAML 1.2, taken strictly. Every fault is reported, all at once, with its line: unknown and
// duplicate keys, wrong types, bad values, contradictions between settings. A number is not text and `yes` is
// not `true`: who reads the file must not have to know YAML's rules. Bounds: 1 MiB a file, a limit on what
// aliases expand to.
//
// Aliases (&name, *name) are accepted for whole values, because programs that write YAML use them for values
// that occur twice. Merge keys (<<), tags (!name) and several documents in a file are not supported: none of
// them is needed, and each makes it harder to see what a file says.
//
// The package is larger than its neighbours because position, value and message of a setting belong together:
// what reads a value knows where it stands. The rules are in the files named after the sections (acme.go,
// certificate.go, target.go); what is not built yet is the table in unsupported.go.
package configs

import (
	_ "embed"
)

//go:embed mxcert.yaml
var example []byte

// The schema is made from the types in config.go and their comments.
//
//go:generate go test -run ^TestSchemaIsFresh$ -update .
//go:embed schema.json
var schema []byte

// Example returns the annotated example: every key with its default and meaning.
func Example() []byte { return append([]byte(nil), example...) }

// Schema returns the JSON schema (draft 2020-12) of mxcert.yaml, for editors.
func Schema() []byte { return append([]byte(nil), schema...) }
