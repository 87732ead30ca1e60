// Command banger gives a developer disposable Linux VMs. It is a client of
// bangerd, which it starts when needed.
package main

import (
	"os"

	"banger/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
