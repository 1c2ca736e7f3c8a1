package wanted

import (
	"errors"
	"io/fs"

	"mxcert/acme/finding"
	"mxcert/configs"
	"mxcert/hooks/metrics"
)

// Metrics says where numbers for monitoring go.
type Metrics struct {
	Listen    string // address and port; "" if mxcert does not listen
	WebConfig string // path of a web configuration file; "" if there is none
	Textfile  string // path; "" if there is none

	Watched  bool     // mxcert looks for certificates that it did not order
	Channels []string // names of the ways to tell people
}

// On reports whether the numbers go anywhere.
func (m Metrics) On() bool { return m.Listen != "" || m.Textfile != "" }

func metricsOf(config *configs.Config) Metrics {
	m := Metrics{Listen: config.Metrics.Listen, WebConfig: config.Metrics.WebConfig, Textfile: config.Metrics.Textfile, Watched: config.CT.Watch}
	for _, channel := range config.Notify {
		m.Channels = append(m.Channels, channel.Name)
	}
	return m
}

// warnWebConfig finds faults in the web configuration file, which is read again while the daemon runs. A file that this process may not read is
// for the daemon to judge.
func warnWebConfig(config *configs.Config) []configs.Problem {
	file := config.Metrics.WebConfig
	if file == "" || config.Metrics.Listen == "" {
		return nil
	}
	err := metrics.CheckWebConfig(file)
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	p := config.At("metrics.web_config")
	p.Message = "metrics.web_config: " + finding.Quote(err.Error(), finding.MostQuoted)
	p.Hint = "mxcert does not serve metrics until the file is repaired"
	return []configs.Problem{p}
}
