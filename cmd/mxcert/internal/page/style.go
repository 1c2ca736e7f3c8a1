package page

import _ "embed"

//go:embed style.css
var style string //nolint:gochecknoglobals // embedded

// policy forbids what the page does not do: it loads nothing and runs nothing (Content Security Policy level 3).
const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
