package e2e

import _ "embed"

//go:embed attacker.py
var attackerProgram []byte
