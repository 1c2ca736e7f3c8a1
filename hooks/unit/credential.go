package unit

import (
	"context"
	"fmt"
)

// Service is the unit of mxcert's own daemon.
const Service = "mxcert.service"

// Credentials returns which credentials systemd hands to a unit when it starts it: by name, the setting that says so (systemd.exec(5)). It
// leaves out ImportCredential=, whose names are patterns. The error is an [*Error].
func Credentials(ctx context.Context, name string) (settings map[string]string, err error) {
	settings = map[string]string{}
	err = with(ctx, name, func(ctx context.Context, s *systemd, name string) *Error {
		p, err := s.GetUnitTypePropertiesContext(ctx, name, "Service")
		if err != nil {
			return failure(ctx, name, err)
		}
		for _, setting := range []string{"LoadCredential", "LoadCredentialEncrypted"} { // a(ss): name and source
			for _, pair := range listOf(p[setting]) {
				if id, ok := pair[0].(string); ok && len(pair) == 2 {
					settings[id] = fmt.Sprintf("%s=%s:%v", setting, id, pair[1])
				}
			}
		}
		for _, setting := range []string{"SetCredential", "SetCredentialEncrypted"} { // a(say): name and value, which is not repeated
			for _, pair := range listOf(p[setting]) {
				if id, ok := pair[0].(string); ok {
					settings[id] = setting + "=" + id
				}
			}
		}
		return nil
	})
	return settings, err
}

// listOf returns the non-empty structures of a property that is an array of them.
func listOf(property any) (list [][]any) {
	structures, _ := property.([][]any)
	for _, fields := range structures {
		if len(fields) > 0 {
			list = append(list, fields)
		}
	}
	return list
}
