package cli

import (
	"fmt"
	"os"
	"strings"

	"banger/internal/naming"
)

// envFlag collects --env K=V. Without a value it takes the host's, and nothing
// if the host has none, as docker does.
type envFlag struct {
	values map[string]string
}

// String is for help: there is no default.
func (f *envFlag) String() string { return "" }

// Type is what help shows in place of the value.
func (f *envFlag) Type() string { return "KEY[=VALUE]" }

// Set adds a variable.
func (f *envFlag) Set(text string) error {
	key, value, given := strings.Cut(text, "=")
	if !naming.IsVariable(key) {
		return fmt.Errorf("%q is not the name of an environment variable", key)
	}
	if strings.ContainsRune(value, 0) {
		return fmt.Errorf("the value of %s has a zero byte", key)
	}
	if !given {
		if value, given = os.LookupEnv(key); !given {
			return nil
		}
	}
	if f.values == nil {
		f.values = make(map[string]string)
	}
	f.values[key] = value
	return nil
}
