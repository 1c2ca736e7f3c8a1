package adopt

import (
	"os"
	"strings"
)

// readSettings reads lines of the form NAME = VALUE. It removes quotes of the given kind around values.
func readSettings(file, quote string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || strings.HasPrefix(name, "#") {
			continue
		}
		settings[name] = strings.Trim(strings.TrimSpace(value), quote)
	}
	return settings, nil
}

// readEither reads the first of two files if it exists, otherwise the second.
func readEither(first, second string) ([]byte, error) {
	text, err := os.ReadFile(first)
	if err != nil && second != "" {
		if other, again := os.ReadFile(second); again == nil {
			return other, nil
		}
	}
	return text, err
}
