package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/cli/termtext"
	"banger/internal/session"
)

// Exit statuses that don't follow from an api.Code.
const (
	exitLost    = 125 // as with docker: banger failed, not the command
	exitSIGPIPE = 128 + int(syscall.SIGPIPE)
)

// status is a row of the table of exit statuses.
type status struct {
	exit  int
	codes []api.Code
	means string
}

// statuses is the one table of exit statuses.
func statuses() []status {
	return []status{
		{0, nil, "success"},
		{1, []api.Code{api.CodeInternal}, "an unforeseen failure"},
		{2, []api.Code{api.CodeInvalid}, "the command line or a value in it is wrong"},
		{3, []api.Code{api.CodeDaemon}, "bangerd can't be started or reached"},
		{4, []api.Code{api.CodeNotFound}, "there is no such VM, image or kernel"},
		{5, []api.Code{api.CodeExists, api.CodeConflict}, "the name is taken, or the state forbids it"},
		{6, []api.Code{api.CodeHost}, "the host lacks a tool, a permission or space"},
		{7, []api.Code{api.CodeTimeout}, "it took too long"},
		{8, []api.Code{api.CodeGuest}, "the guest refused or failed"},
		{9, []api.Code{api.CodeVersion}, "banger and bangerd are of different versions"},
		{exitLost, nil, "the connection was lost while a command ran in the guest"},
		{130, []api.Code{api.CodeCancelled}, "cancelled, for instance by Ctrl-C"},
	}
}

// exitError ends banger with the status of a command in a guest, or another
// one that needs no message.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// multiError is what failed of several independent things.
type multiError []error

func (m multiError) Error() string {
	texts := make([]string, len(m))
	for i, err := range m {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// exitCode returns the exit status for what a command has returned.
func exitCode(err error) int {
	var exit *exitError
	var several multiError
	var lost *session.LostError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &several):
		return exitCode(several[0])
	case errors.As(err, &lost):
		return exitLost
	case errors.Is(err, syscall.EPIPE):
		return exitSIGPIPE
	}
	code := describe(err).Code
	for _, s := range statuses() {
		for _, c := range s.codes {
			if c == code {
				return s.exit
			}
		}
	}
	return 1
}

// describe makes an *api.Error of any error.
func describe(err error) *api.Error {
	e := api.AsError(err)
	if e.Code == api.CodeInternal && errors.Is(err, context.Canceled) {
		return api.Errorf(api.CodeCancelled, "cancelled")
	}
	return e
}

// printError tells the user what failed and what to do about it.
func printError(w *termtext.Writer, err error) {
	var exit *exitError
	var several multiError
	switch {
	case err == nil, errors.As(err, &exit), errors.Is(err, syscall.EPIPE):
		return // nothing to tell, or nobody to tell it to
	case errors.As(err, &several):
		for _, each := range several {
			printError(w, each)
		}
		return
	}
	e := describe(err)
	fmt.Fprintf(w, "banger: %s\n", indent(e.Msg))
	if e.Hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", indent(e.Hint))
	}
}

// indent sets further lines in, so that no text can pretend to be another
// message.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n        ") }

// newExitCodes is a help topic, made from the table.
func newExitCodes() *cobra.Command {
	var text strings.Builder
	text.WriteString("The exit statuses of banger:\n\n")
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, s := range statuses() {
		fmt.Fprintf(table, "  %d\t%s\n", s.exit, s.means)
	}
	table.Flush()
	text.WriteString(`
"vm run", "vm exec" and "vm ssh" end with the exit status of the command that
they ran in the guest, whatever it is; 128+N if signal N killed it. So a status
from this table can also be the command's own; a message on stderr that starts
with "banger:" tells them apart.`)
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "Explain the exit statuses",
		Long:  text.String(),
	}
}
