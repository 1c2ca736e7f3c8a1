package adopt

// What the tests look at from outside.
var (
	ParseINI    = parseINI
	ParseShell  = parseShell
	PlainAcmeSh = plainAcmeSh
	LineageName = lineageName
	Provider    = provider
	AtPosition  = atPosition
)
