package report

import "fmt"

// Code is an exit code of the program, part of the contract with scripts. 75, 77 and 78 are those of sysexits(3).
type Code int

// The exit codes.
const (
	CodeOK           Code = 0
	CodeFailed       Code = 1
	CodeUsage        Code = 2
	CodeFault        Code = 3 // verify, doctor or check found a fault; tlsa check or status, one of the TLSA records
	CodeSome         Code = 4 // some certificates failed, others did not
	CodeNotInService Code = 5 // issued, but the deployment failed or was taken back
	CodeChanged      Code = 10
	CodeTemporary    Code = 75
	CodePermission   Code = 77
	CodeConfig       Code = 78
	CodeInterrupted  Code = 130 // Ctrl-C while a daemon did the work: it goes on, as shells say it of SIGINT
)

// SumCodes sums up the codes of several certificates: 0 when all converged, the common code when all failed alike, 4 when
// some failed. If the failures differ, the one that most needs a person counts.
func SumCodes(codes []Code) Code {
	sum, good, bad := CodeOK, 0, 0
	for _, code := range codes {
		if code == CodeOK {
			good++
			continue
		}
		bad++
		if code.Rank() > sum.Rank() {
			sum = code
		}
	}
	if good > 0 && bad > 0 {
		return CodeSome
	}
	return sum
}

// Rank orders the codes of certificates by how much they need a person: 0 for a certificate with which all is well.
func (code Code) Rank() int {
	switch code {
	case CodeOK:
		return 0
	case CodeTemporary:
		return 1
	case CodePermission:
		return 2
	case CodeNotInService:
		return 3
	}
	return 4
}

// Exit is an error that sets the exit code.
type Exit struct {
	Code Code
	Err  error // nil: a report has said everything already
}

// Error is the text of Err.
func (e *Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *Exit) Unwrap() error { return e.Err }

// Usage returns an error about how a command was called.
func Usage(format string, values ...any) error {
	return &Exit{Code: CodeUsage, Err: fmt.Errorf(format, values...)}
}
