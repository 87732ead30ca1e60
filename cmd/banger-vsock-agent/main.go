// Command banger-vsock-agent is the program inside every banger VM.
package main

import (
	"fmt"
	"os"

	"banger/internal/agent"
	"banger/internal/version"
)

func main() {
	if len(os.Args) == 2 && (os.Args[1] == "-version" || os.Args[1] == "--version") {
		_, _ = fmt.Fprintln(os.Stdout, "banger-vsock-agent", version.String())
		return
	}
	os.Exit(agent.Main(os.Args, version.String()))
}
