package wanted

import (
	"fmt"
	"slices"
	"time"

	"mxcert/acme/ct"
	"mxcert/acme/ct/sct"
	"mxcert/configs"
)

// Transparency says how the logs of certificate transparency are watched.
type Transparency struct {
	Watch    bool
	Interval time.Duration // between two questions about a name
	Ours     []string      // patterns of files with certificates of other programs and hosts
	LogList  string        // path; "" if no signatures of SCTs are checked
	Bare     bool          // Cert Spotter is asked without a token

	sources []configs.CTSource
	secrets *secrets
}

// Transparency returns what the section ct says.
func (h *Host) Transparency() Transparency {
	bare := slices.ContainsFunc(h.ct.Sources, func(s configs.CTSource) bool { return s.Kind == "certspotter" && s.Token == "" })
	return Transparency{Bare: bare, Watch: h.ct.Watch, Interval: h.ct.Interval, Ours: h.ct.Ours, LogList: h.ct.LogList, sources: h.ct.Sources, secrets: h.secrets}
}

// Listed returns when the log list was made. It is for configurations that name one.
func (t Transparency) Listed() (time.Time, error) { return sct.ListTime(t.LogList) }

// Sources returns the services to ask. release is the version of the program, for the user agent. Tokens are read with each request.
func (t Transparency) Sources(release string) (list []ct.Source) {
	for _, s := range t.sources {
		if s.Kind == "crtsh" {
			list = append(list, ct.CrtSh(s.URL, "mxcert/"+release))
			continue
		}
		var token func() (string, error)
		if s.Token != "" {
			token = func() (string, error) { return t.secrets.read(s.Token) }
		}
		list = append(list, ct.CertSpotter(s.URL, "mxcert/"+release, token))
	}
	return list
}

// TransparencyNames returns the names of all certificates, without those that looks at MX records have found.
func (h *Host) TransparencyNames() ct.Names {
	names := ct.Names{}
	for _, c := range h.Certificates {
		names.Add(c.Name, c.Names)
	}
	return names
}

// ctTokens are the tokens of the sources, by their settings.
func ctTokens(section configs.CT) map[string]configs.Secret {
	list := map[string]configs.Secret{}
	for i, s := range section.Sources {
		if s.Token != "" {
			list[fmt.Sprintf("ct.sources[%d].%s.token", i, s.Kind)] = s.Token
		}
	}
	return list
}

// checkLogList finds a log list that cannot be used.
func checkLogList(config *configs.Config) (problem configs.Problem, bad bool) {
	if config.CT.LogList == "" {
		return problem, false
	}
	if _, err := sct.ReadLogs(config.CT.LogList); err != nil {
		problem = config.At("ct.log_list")
		problem.Message, problem.Hint = fmt.Sprintf("ct.log_list: %v", err), "fetch it from https://www.gstatic.com/ct/log_list/v3/log_list.json, or remove the line"
		return problem, true
	}
	return problem, false
}
