package ca

import (
	"fmt"
	"os"
	"strconv"
	"sync"
)

// environmentLock guards the process environment while Pebble's constructors read it. It is a package variable because the
// environment belongs to the process.
var environmentLock sync.Mutex

// environment holds the settings for which Pebble has no parameter.
func (o *Options) environment() map[string]string {
	settings := map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1",
		"PEBBLE_VA_ALWAYS_VALID": "0",
		"PEBBLE_WFE_NONCEREJECT": strconv.Itoa(o.BadNonces),
		"PEBBLE_AUTHZREUSE":      strconv.Itoa(o.ReuseAuthz),
	}
	if o.SkipValidation {
		settings["PEBBLE_VA_ALWAYS_VALID"] = "1"
	}
	return settings
}

// withEnvironment calls do with the settings in the process environment, and restores the environment afterwards.
func withEnvironment(settings map[string]string, do func()) error {
	environmentLock.Lock()
	defer environmentLock.Unlock()
	for name, value := range settings {
		old, had := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %v", name, err)
		}
		defer func() {
			if had {
				_ = os.Setenv(name, old)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	do()
	return nil
}
