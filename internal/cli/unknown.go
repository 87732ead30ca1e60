package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
)

// checkCommand fails if args name a command that doesn't exist. cobra would take
// the word for an argument, and with --help show the help of what is above it.
func checkCommand(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil // cobra adds this one later
	}
	cmd, rest, err := root.Find(args)
	if err != nil {
		return nil //nolint:nilerr // cobra will find that, too
	}
	if cmd.Name() == "help" && cmd.Parent() == root {
		return checkCommand(root, rest)
	}
	word := firstWord(rest)
	if !cmd.HasSubCommands() || word == "" {
		return nil
	}
	failed := api.Errorf(api.CodeInvalid, "%s has no command %q", cmd.CommandPath(), word)
	if near := nearest(cmd, word); near != "" {
		return failed.WithHint("did you mean: %s %s", cmd.CommandPath(), near)
	}
	return failed.WithHint("see: %s --help", cmd.CommandPath())
}

// firstWord returns the first argument that is no flag.
func firstWord(args []string) string {
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}

// nearest returns the command that was probably meant by a word, "" if none
// was: the one that it begins, or one of that first letter which a slip of the
// fingers or two make of it. That is less than what cobra finds, for a command
// that does something else, proposed to somebody in a hurry, does harm.
func nearest(parent *cobra.Command, word string) string {
	word = strings.ToLower(word)
	best, least := "", len(word)
	for _, cmd := range parent.Commands() {
		name := cmd.Name()
		if !cmd.IsAvailableCommand() || word == "" || word[0] != name[0] {
			continue
		}
		if len(word) > 1 && strings.HasPrefix(name, word) {
			return name
		}
		slips := 1
		if min(len(word), len(name)) >= 6 {
			slips = 2
		}
		if d := distance(word, name); d <= slips && d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the slips between two words: a letter too many, too few,
// another one, or two neighbours exchanged (the restricted Damerau-Levenshtein
// distance).
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = slices.Min([]int{replaced, last[j+1] + 1, row[j] + 1})
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
