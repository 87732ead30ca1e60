package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/client"
)

// daemonStatus is what daemon status --json prints.
type daemonStatus struct {
	Running       bool         `json:"running"`
	PID           int          `json:"pid,omitempty"`
	Version       string       `json:"version,omitempty"`
	ClientVersion string       `json:"client_version"`
	Socket        string       `json:"socket"`
	Log           string       `json:"log"`
	Problems      []string     `json:"problems,omitempty"`
	Process       *api.Process `json:"process,omitempty"`
}

func newDaemonStatus(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "status",
		Short:             "Tell whether bangerd runs",
		Long:              "Tell whether bangerd runs, what it takes of the host, and what keeps its VMs\nfrom working as they should, without starting it. If it doesn't run, the exit\nstatus is 3.",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDaemonStatus(cmd.Context(), e, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func runDaemonStatus(ctx context.Context, e *env, asJSON bool) error {
	s, err := findStatus(ctx, e)
	if err != nil {
		return err
	}
	if err := printStatus(e, s, asJSON); err != nil {
		return err
	}
	if !s.Running {
		return &exitError{exitCode(api.ErrDaemon)}
	}
	return nil
}

// findStatus asks for bangerd's status without starting it. One that doesn't
// answer is an error.
func findStatus(ctx context.Context, e *env) (daemonStatus, error) {
	layout, err := e.layout()
	if err != nil {
		return daemonStatus{}, err
	}
	v, err := call(client.WithoutStart(ctx), e, api.GetVersion, api.None{})
	var silent *client.SilentError
	if err != nil && (!errors.Is(err, api.ErrDaemon) || errors.As(err, &silent)) {
		return daemonStatus{}, err
	}
	return daemonStatus{
		Running: err == nil, PID: v.PID, Version: v.Version, ClientVersion: e.version,
		Socket: layout.Socket(), Log: layout.DaemonLog(), Problems: v.Problems, Process: v.Process,
	}, nil
}

// printDaemon prints bangerd's status after it was changed, if that is asked for.
func (o outcome) printDaemon(ctx context.Context, e *env) error {
	if !o.json {
		return nil
	}
	s, err := findStatus(ctx, e)
	if err != nil {
		return err
	}
	return o.print(e, s)
}

func printStatus(e *env, s daemonStatus, asJSON bool) error {
	if asJSON {
		return printJSON(e.stdout, s)
	}
	heading := "bangerd is not running"
	var rows [][]string
	if s.Running {
		heading = "bangerd is running"
		rows = [][]string{{"pid:", fmt.Sprint(s.PID)}, {"version:", s.Version}}
		if p := s.Process; p != nil {
			rows = append(rows, []string{"memory:", dashBytes(p.MemoryBytes)},
				[]string{"open files:", fmt.Sprint(p.OpenFiles)}, []string{"goroutines:", fmt.Sprint(p.Goroutines)})
		}
		if s.Version != s.ClientVersion {
			e.notice("banger is version %s; to run the same bangerd: banger daemon restart", s.ClientVersion)
		}
	}
	rows = append(rows, []string{"socket:", s.Socket}, []string{"log:", s.Log})
	for _, problem := range s.Problems {
		rows = append(rows, []string{"problem:", problem})
	}
	if _, err := fmt.Fprintln(e.stdout, heading); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return printTable(e.stdout, rows)
}
