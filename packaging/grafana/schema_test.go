// Package grafana tests the dashboard against Grafana's own schema.
package grafana

import (
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// check reads a dashboard as strictly as Grafana's schema is: every field must be known, of the right type, and there if it is required. This
// includes the options of the panels and the queries.
func check(text []byte) error {
	schema := cog.NewRuntime() // the library has one
	schema.RegisterPanelcfgVariant(stat.VariantConfig())
	schema.RegisterPanelcfgVariant(bargauge.VariantConfig())
	schema.RegisterPanelcfgVariant(table.VariantConfig())
	schema.RegisterPanelcfgVariant(timeseries.VariantConfig())
	schema.RegisterDataqueryVariant(prometheus.VariantConfig())
	var d dashboard.Dashboard //nolint:staticcheck // newer schemas are of Kubernetes resources; every Grafana imports this one
	return errors.Join(fault(d.UnmarshalJSONStrict(text)), fault(d.Validate()))
}

// fault returns nil for an empty list of errors, which the library also returns if all is well.
func fault(err error) error {
	if list, ok := errors.AsType[cog.BuildErrors](err); ok && len(list) == 0 {
		return nil
	}
	return err
}

func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("mxcert.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := check(text); err != nil {
		t.Fatal(err)
	}
	// The library reads types of panels and of queries that it does not know without a check. So in each place a field too many must be an error.
	var d map[string]any
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	places := append(objects(d, "templating", "list"), d)
	for _, panel := range objects(d, "panels") {
		options, _ := panel["options"].(map[string]any)
		places = append(append(places, panel, options), objects(panel, "targets")...)
	}
	if len(places) < 40 {
		t.Errorf("there are only %d places", len(places))
	}
	for _, object := range places {
		before, _ := json.Marshal(object) // it was read from JSON
		object["surprise"] = 1
		broken, err := json.Marshal(d)
		if err != nil || check(broken) == nil {
			t.Errorf("a field too many is no error in %.200s (%v)", before, err)
		}
		delete(object, "surprise")
	}
}

// objects returns the objects in a list that is found by names.
func objects(in map[string]any, names ...string) (list []map[string]any) {
	for ; len(names) > 1; names = names[1:] {
		in, _ = in[names[0]].(map[string]any)
	}
	all, _ := in[names[0]].([]any)
	for _, one := range all {
		if object, ok := one.(map[string]any); ok {
			list = append(list, object)
		}
	}
	return list
}
