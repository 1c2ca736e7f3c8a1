package configs

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// JSON returns a configuration, as [Config.Effective] writes it, as one JSON document.
func JSON(effective []byte) ([]byte, error) {
	var document map[string]any
	if err := yaml.Load(effective, &document); err != nil {
		return nil, fmt.Errorf("reading the effective configuration: %v", err)
	}
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the effective configuration: %v", err)
	}
	return append(text, '\n'), nil
}
