package mtasts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

const version = "v=STSv1"

// Fields of the record (RFC 8461 section 3.1).
var (
	idValue   = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)                                         //nolint:gochecknoglobals // a constant
	extension = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+$`) //nolint:gochecknoglobals // a constant
	isRecord  = regexp.MustCompile(`^v=STSv1[ \t]*(;|$)`)                                         //nolint:gochecknoglobals // a constant
	nearly    = regexp.MustCompile(`(?i)^[ \t"]*v[ \t]*=[ \t]*sts`)                               //nolint:gochecknoglobals // a constant
)

const recordHint = `publish exactly one record: _mta-sts.DOMAIN. TXT "v=STSv1; id=ID;", with an ID of 1 to 32 letters and digits that is new after each change of the policy`

// readRecords finds the id in the TXT records at _mta-sts (RFC 8461 section 3.1). It is "" without a fault if no record is about MTA-STS.
func readRecords(records []string) (id string, notes []finding.Finding, f *fault) {
	var ours []string
	for _, record := range records {
		switch {
		case isRecord.MatchString(record):
			ours = append(ours, record)
		case nearly.MatchString(record):
			notes = append(notes, finding.New("sts-record-ignored", finding.Warning, "senders ignore the TXT record %s, because it does not begin with %s;", finding.Quoted(record, 80), version).Next(recordHint))
		}
	}
	invalid := func(format string, values ...any) (string, []finding.Finding, *fault) {
		return "", notes, &fault{kind: PolicyInvalid, id: "sts-record-invalid", hint: recordHint,
			reason: fmt.Sprintf(format, values...) + "; senders must act as if the domain had no policy, and " + olderPolicy}
	}
	if len(ours) > 1 { // of several, those count that begin exactly so
		if exact := slices.DeleteFunc(slices.Clone(ours), func(record string) bool { return !strings.HasPrefix(record, version+";") }); len(exact) > 0 {
			ours = exact
		}
	}
	if len(ours) > 1 {
		return invalid("there are %d TXT records that begin with %s, and only one may", len(ours), version)
	}
	if len(ours) == 0 {
		return "", notes, nil
	}
	id, more, problem := readRecord(ours[0])
	if problem != "" {
		return invalid("the TXT record %s %s", finding.Quoted(ours[0], 120), problem)
	}
	return id, append(notes, more...), nil
}

// readRecord returns the id of one record, or what is wrong with it.
func readRecord(record string) (id string, notes []finding.Finding, problem string) {
	fields := strings.Split(strings.TrimPrefix(record, version), ";")
	if last := len(fields) - 1; last > 0 && strings.Trim(fields[last], " \t") == "" {
		fields = fields[:last] // the delimiter at the end
	}
	for _, field := range fields[1:] {
		field = strings.Trim(field, " \t")
		value, isID := strings.CutPrefix(field, "id=")
		switch {
		case isID && !idValue.MatchString(value):
			return "", nil, fmt.Sprintf("has the id %s, which is not 1 to 32 letters and digits", finding.Quoted(value, 60))
		case isID && id != "": // the first counts (RFC 8461 section 3.2)
			notes = append(notes, finding.New("sts-record-duplicate", finding.Warning, "the TXT record has several ids; the first counts, %s", id).Next(recordHint))
		case isID:
			id = value
		case !extension.MatchString(field):
			return "", nil, fmt.Sprintf("has the field %s, which is not NAME=VALUE", finding.Quoted(field, 60))
		}
	}
	if id == "" {
		return "", nil, "has no id"
	}
	return id, notes, ""
}
