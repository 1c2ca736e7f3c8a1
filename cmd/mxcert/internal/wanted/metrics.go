package wanted

import "mxcert/configs"

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
