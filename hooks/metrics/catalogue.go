package metrics

import (
	"cmp"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// The names of metrics that are used more than once.
const (
	renewals      = "mxcert_renewals_total"
	reloads       = "mxcert_reloads_total"
	notifications = "mxcert_notifications_total"
)

// Metric describes a metric.
type Metric struct {
	Name, Help string
	Labels     []string
	Counter    bool // otherwise it is a gauge

	samples func(s *Snapshot, b *builder) // nil for a counter
}

// Catalogue lists all metrics, ordered by name.
func Catalogue() []Metric {
	list := []Metric{
		{Name: "mxcert_build_info", Help: "1, with the version of mxcert and of Go.", Labels: []string{"version", "goversion"},
			samples: func(s *Snapshot, b *builder) { b.add(1, s.Release, runtime.Version()) }},
		{Name: "mxcert_config_last_reload_successful", Help: "1 if the files of the configuration are in force, 0 if they are broken and an older configuration stays in force.",
			samples: func(s *Snapshot, b *builder) { b.add(oneIf(s.ConfigGood)) }},
		{Name: "mxcert_certificate_not_after_timestamp_seconds", Help: "When the current certificate expires.", Labels: []string{"certificate", "key"},
			samples: each(func(c *Certificate, b *builder) {
				for _, k := range c.Keys {
					b.add(seconds(k.NotAfter), c.Name, k.Key)
				}
			})},
		{Name: "mxcert_certificate_not_before_timestamp_seconds", Help: "When the life of the current certificate began.", Labels: []string{"certificate", "key"},
			samples: each(func(c *Certificate, b *builder) {
				for _, k := range c.Keys {
					b.add(seconds(k.NotBefore), c.Name, k.Key)
				}
			})},
		{Name: "mxcert_served_not_after_timestamp_seconds", Help: "When the certificate expires that the endpoint showed last.", Labels: []string{"certificate", "endpoint", "key"},
			samples: each(func(c *Certificate, b *builder) {
				for _, e := range c.Endpoints {
					if !e.NotAfter.IsZero() {
						b.add(seconds(e.NotAfter), c.Name, e.Address, e.Key)
					}
				}
			})},
		{Name: "mxcert_served_matches", Help: "1 if the endpoint showed the current certificate, 0 if it showed another one or none.", Labels: []string{"certificate", "endpoint", "key"},
			samples: each(func(c *Certificate, b *builder) {
				for _, e := range c.Endpoints {
					b.add(oneIf(e.Matches), c.Name, e.Address, e.Key)
				}
			})},
		{Name: "mxcert_next_renewal_timestamp_seconds", Help: "When the current certificate is to be renewed. It stays in the past while orders fail.", Labels: []string{"certificate"},
			samples: each(func(c *Certificate, b *builder) {
				if !c.Due.IsZero() {
					b.add(seconds(c.Due), c.Name)
				}
			})},
		{Name: "mxcert_last_success_timestamp_seconds", Help: "When a pass last found or put the certificate in service; 0: never.", Labels: []string{"certificate"},
			samples: each(func(c *Certificate, b *builder) { b.add(seconds(c.LastSuccess), c.Name) })},
		{Name: "mxcert_pass_duration_seconds", Help: "How long the last pass took.", Labels: []string{"certificate"},
			samples: each(func(c *Certificate, b *builder) { b.add(c.Took.Seconds(), c.Name) })},
		{Name: "mxcert_tlsa_matches", Help: "1 if senders that use DANE accept what is shown there, 0 if they do not.", Labels: []string{"certificate", "host", "port"},
			samples: each(func(c *Certificate, b *builder) {
				for _, o := range c.Owners {
					b.add(oneIf(o.Matches), c.Name, o.Host, strconv.Itoa(o.Port))
				}
			})},
		{Name: "mxcert_tlsa_state", Help: "1 for the state of the TLSA records of the key type, 0 for all others.", Labels: []string{"certificate", "key", "state"},
			samples: func(s *Snapshot, b *builder) {
				for i := range s.Certificates {
					for _, k := range s.Certificates[i].TLSA {
						for _, state := range s.TLSAStates {
							b.add(oneIf(state == k.State), s.Certificates[i].Name, k.Key, state)
						}
					}
				}
			}},
		{Name: "mxcert_ct_unknown_certificates", Help: "Certificates of our names in the logs of certificate transparency that mxcert did not order.", Labels: []string{"certificate"},
			samples: each(func(c *Certificate, b *builder) {
				if c.Unknown >= 0 {
					b.add(float64(c.Unknown), c.Name)
				}
			})},
		{Name: "mxcert_fleet_engine_up", Help: "1 if the store that the hosts of the fleet share can be used, 0 if not. Without a fleet there is no such number.",
			samples: func(s *Snapshot, b *builder) {
				if s.Fleet != nil {
					b.add(oneIf(s.Fleet.Up))
				}
			}},
		{Name: "mxcert_fleet_host_serial_matches", Help: "1 if the host was seen to serve the newest certificates of the fleet.", Labels: []string{"certificate", "host"},
			samples: func(s *Snapshot, b *builder) {
				if s.Fleet != nil {
					for _, h := range s.Fleet.Hosts {
						b.add(oneIf(h.Matches), h.Certificate, h.Host)
					}
				}
			}},
		{Name: renewals, Help: "Passes that ordered at the certificate authority, with all key types of the certificate.", Labels: []string{"certificate", "result"}, Counter: true},
		{Name: reloads, Help: "Reloads of units.", Labels: []string{"unit", "result"}, Counter: true},
		{Name: notifications, Help: "Messages to people.", Labels: []string{"channel", "result"}, Counter: true},
	}
	slices.SortFunc(list, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// each makes samples from one certificate after another.
func each(of func(c *Certificate, b *builder)) func(*Snapshot, *builder) {
	return func(s *Snapshot, b *builder) {
		for i := range s.Certificates {
			of(&s.Certificates[i], b)
		}
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// seconds returns a time as a UNIX timestamp; 0 if it is zero.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
