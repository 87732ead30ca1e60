// Command registry is the reference implementation of the OCI distribution
// API (https://github.com/distribution/distribution) with the parts that
// banger's tests need: blobs in a directory and, optionally, basic
// authentication. It is a module of its own, so that banger doesn't depend on
// what it needs.
//
//	registry serve config.yml
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
