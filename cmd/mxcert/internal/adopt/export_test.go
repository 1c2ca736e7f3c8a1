package adopt

// What the tests look at from outside.
var (
	ParseSettings = parseSettings
	PlainAcmeSh   = plainAcmeSh
	LineageName   = lineageName
)
