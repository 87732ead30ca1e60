// Command mandoc writes banger's manual pages into the directory that is its
// argument. It is a program of its own so that banger doesn't carry the
// generator.
package main

import (
	"fmt"
	"os"

	"banger/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mandoc DIRECTORY")
		os.Exit(2)
	}
	if err := cli.WriteManPages(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mandoc:", err)
		os.Exit(1)
	}
}
