// Package prometheus tests the alerts for Prometheus and the dashboard for Grafana: with Debian's promtool, and against the metrics that the
// program has.
package prometheus

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mxcert/hooks/metrics"
)

const dashboardFile = "../grafana/mxcert.json"

// promtool runs Debian's promtool, which packaging/test.sh makes available.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("there is no promtool: packaging/test.sh makes it available")
		}
		t.Skip("there is no promtool: packaging/test.sh makes it available")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each alert fires, and does not.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "alerts.yml")
	promtool(t, "test", "rules", "alerts_test.yml")
	tests := read(t, "alerts_test.yml")
	names := regexp.MustCompile(`(?m)^      - alert: (\w+)$`).FindAllStringSubmatch(read(t, "alerts.yml"), -1)
	if len(names) < 8 {
		t.Errorf("only %d alerts were seen", len(names))
	}
	for _, name := range names {
		quiet := strings.Contains(tests, "alertname: "+name[1]+"}\n")
		fires := strings.Contains(tests, "alertname: "+name[1]+"\n        exp_alerts:\n          - exp_labels:")
		if !quiet || !fires {
			t.Errorf("%s: tested that it fires: %v, that it does not: %v", name[1], fires, quiet)
		}
	}
}

// Every alert says what to do: a command.
func TestNextSteps(t *testing.T) {
	t.Parallel()
	for _, line := range strings.Split(read(t, "alerts.yml"), "\n") {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "description: "); found && !regexp.MustCompile(`: mxcert \w+`).MatchString(text) {
			t.Errorf("no next step: %s", text)
		}
	}
}

// Every metric that the alerts and the dashboard name exists, and a query uses every metric.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	text, metric := read(t, "alerts.yml")+read(t, dashboardFile), regexp.MustCompile(`mxcert_\w+`)
	shown := metric.FindAllString(text, -1)
	used := metric.FindAllString(strings.Join(regexp.MustCompile(`(?m)^ *"?expr"?: .*$`).FindAllString(text, -1), "\n"), -1)
	var known []string
	for _, m := range metrics.Catalogue() {
		known = append(known, m.Name)
		if !slices.Contains(used, m.Name) {
			t.Errorf("neither an alert nor the dashboard uses %s", m.Name)
		}
	}
	for _, name := range shown {
		if !slices.Contains(known, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// Every label that the alerts and the dashboard choose by, group by or show is one of the metrics, or of a scrape.
func TestLabelsExist(t *testing.T) {
	t.Parallel()
	known, all := map[string][]string{}, []string{"instance", "job"}
	for _, m := range metrics.Catalogue() {
		known[m.Name] = append(slices.Clone(m.Labels), "instance", "job")
		all = append(all, m.Labels...)
	}
	text := strings.ReplaceAll(read(t, "alerts.yml")+read(t, dashboardFile), `\"`, `"`)
	chosen := 0
	for _, selector := range regexp.MustCompile(`(mxcert_\w+)\{([^{}]*)\}`).FindAllStringSubmatch(text, -1) {
		for _, label := range regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)"`).FindAllStringSubmatch(selector[2], -1) {
			if chosen++; !slices.Contains(known[selector[1]], label[1]) {
				t.Errorf("%s has no label %s", selector[1], label[1])
			}
		}
	}
	shown := 0
	for _, list := range regexp.MustCompile(`(?:\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)|\{\{\s*(?:\$labels\.)?([a-z]+)\s*\}\})`).FindAllStringSubmatch(text, -1) {
		for _, label := range strings.FieldsFunc(list[1]+list[2], func(r rune) bool { return r == ',' || r == ' ' }) {
			if shown++; !slices.Contains(all, label) {
				t.Errorf("no metric has the label %s: %s", label, list[0])
			}
		}
	}
	if chosen < 10 || shown < 20 {
		t.Errorf("the test has seen only %d labels that choose and %d that are shown", chosen, shown)
	}
}

// The names and labels that other people's rules depend on.
func TestContract(t *testing.T) {
	t.Parallel()
	var have []string
	for _, m := range metrics.Catalogue() {
		have = append(have, m.Name+"{"+strings.Join(m.Labels, ",")+"}")
	}
	for _, want := range []string{
		"mxcert_certificate_not_after_timestamp_seconds{certificate,key}", "mxcert_served_not_after_timestamp_seconds{certificate,endpoint,key}",
		"mxcert_served_matches{certificate,endpoint,key}", "mxcert_next_renewal_timestamp_seconds{certificate}", "mxcert_last_success_timestamp_seconds{certificate}",
		"mxcert_renewals_total{certificate,result}", "mxcert_reloads_total{unit,result}", "mxcert_tlsa_matches{certificate,host,port}",
		"mxcert_config_last_reload_successful{}", "mxcert_build_info{version,goversion}", "mxcert_tlsa_state{certificate,key,state}",
		"mxcert_ct_unknown_certificates{certificate}", "mxcert_notifications_total{channel,result}", "mxcert_pass_duration_seconds{certificate}",
		"mxcert_fleet_engine_up{}", "mxcert_fleet_host_serial_matches{certificate,host}",
	} {
		if !slices.Contains(have, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// dashboard is what a dashboard of Grafana has, as far as this one uses it. Anything else is a mistake.
type dashboard struct {
	ID                   *int                      `json:"id"`
	UID                  string                    `json:"uid"`
	Title                string                    `json:"title"`
	Description          string                    `json:"description"`
	Tags                 []string                  `json:"tags"`
	SchemaVersion        int                       `json:"schemaVersion"`
	Version              int                       `json:"version"`
	Editable             bool                      `json:"editable"`
	GraphTooltip         int                       `json:"graphTooltip"`
	Timezone             string                    `json:"timezone"`
	Refresh              string                    `json:"refresh"`
	WeekStart            string                    `json:"weekStart"`
	FiscalYearStartMonth int                       `json:"fiscalYearStartMonth"`
	LiveNow              bool                      `json:"liveNow"`
	Links                []any                     `json:"links"`
	Time                 map[string]string         `json:"time"`
	Timepicker           map[string]any            `json:"timepicker"`
	Annotations          struct{ List []any }      `json:"annotations"`
	Templating           struct{ List []variable } `json:"templating"`
	Panels               []panel                   `json:"panels"`
}

type source struct{ Type, UID string }

type variable struct {
	Name, Label, Type, Definition, AllValue, Regex string
	Datasource                                     *source
	Query                                          any
	Refresh, Sort, Hide                            int
	Multi, IncludeAll, SkipURLSync                 bool
	Options                                        []any
	Current                                        map[string]any
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  source
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		RefID, Expr, LegendFormat, Format, EditorMode string
		Datasource                                    source
		Range, Instant                                bool
	}
	FieldConfig struct {
		Defaults struct {
			Unit       string
			Decimals   *int
			Min, Max   *float64
			Color      struct{ Mode string }
			Mappings   []any
			Thresholds struct {
				Mode  string
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
		Overrides []any
	}
	Options map[string]any
}

// The dashboard has the shape that Grafana loads, its queries are PromQL, and its panels do not overlap.
func TestDashboard(t *testing.T) {
	t.Parallel()
	decoder := json.NewDecoder(strings.NewReader(read(t, dashboardFile)))
	decoder.DisallowUnknownFields()
	var d dashboard
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.ID != nil || d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.SchemaVersion < 36 || len(d.Panels) == 0 {
		t.Errorf("id %v, uid %q, title %q, schema version %d", d.ID, d.UID, d.Title, d.SchemaVersion)
	}
	variables := map[string]string{}
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" || variables["certificate"] != "query" {
		t.Errorf("the variables are %v", variables)
	}
	rules := "groups:\n- name: dashboard\n  rules:\n"
	cells, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 ||
			!slices.Contains([]string{"stat", "bargauge", "table", "timeseries"}, p.Type) {
			t.Errorf("panel %d %q of type %s at %+v", p.ID, p.Title, p.Type, p.GridPos)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("%s covers %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for i, target := range p.Targets {
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s does not choose hosts: %s", p.Title, target.Expr)
			}
			expr, _ := json.Marshal(target.Expr) // a string
			rules += fmt.Sprintf("  - {record: \"panel:%d:%d\", expr: %s}\n", p.ID, i, expr)
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
