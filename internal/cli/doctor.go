package cli

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/api"
	"banger/internal/doctor"
	"banger/internal/setup"
)

// doctorReport is what doctor --json prints.
type doctorReport struct {
	Usable   bool             `json:"usable"`
	Findings []doctor.Finding `json:"findings"`
	Host     *api.Host        `json:"host,omitempty"` // if bangerd could be asked
}

func newDoctor(e *env) *cobra.Command {
	var fix, asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what banger needs of this host",
		Long: `Check each tool, permission and limit that banger needs of this host. For what
is missing it says what that costs and which command mends it; --fix runs these
commands (by sudo, unless you are root).

The exit status is 0 if banger can run VMs, else 6.`,
		Example:           "  banger doctor --fix",
		Args:              args(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDoctor(cmd.Context(), e, fix, asJSON)
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "run the commands that mend what is missing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

func runDoctor(ctx context.Context, e *env, fix, asJSON bool) error {
	layout, err := e.layout()
	if err != nil {
		return err
	}
	findings := doctor.Run(ctx, e.system, layout.Data)
	if fix {
		if err := mend(ctx, e, doctor.Fixes(findings)); err != nil {
			return err
		}
		findings = doctor.Run(ctx, e.system, layout.Data)
	}
	report := doctorReport{}
	host, found := askHost(ctx, e)
	if found.Status != doctor.Fail {
		report.Host = &host
		tellProbe(findings, host.KVM)
	}
	report.Findings = append(findings, found)
	if report.Host != nil {
		report.Findings = append(report.Findings, checkFirecracker(ctx, e, host, fix)...)
	}
	report.Usable = doctor.Usable(report.Findings)
	if asJSON {
		err = printJSON(e.stdout, report)
	} else {
		err = printFindings(e, report)
	}
	if err == nil && !report.Usable {
		err = &exitError{exitCode(api.ErrHost)}
	}
	return err
}

// askHost asks bangerd how it would run VMs.
func askHost(ctx context.Context, e *env) (api.Host, doctor.Finding) {
	f := doctor.Finding{Name: "bangerd", Status: doctor.OK}
	host, err := call(ctx, e, api.GetHost, api.None{})
	if err != nil {
		failed := describe(err)
		f.Status, f.Detail, f.Advice = doctor.Fail, failed.Msg, failed.Hint
		f.Cost = "nothing works without it"
		return host, f
	}
	f.Detail = host.Why
	if host.Driver != "" {
		f.Detail = fmt.Sprintf("VMs run on %s, %s", host.Driver, host.Why)
	}
	if host.Accel == "tcg" {
		f.Status, f.Cost = doctor.Warn, "VMs run by software emulation, several times slower"
	}
	return host, f
}

// tellProbe adds to the look at KVM's device what bangerd found out by trying:
// that it can be opened doesn't mean that a kernel runs.
func tellProbe(findings []doctor.Finding, probe api.KVMProbe) {
	for i := range findings {
		f := &findings[i]
		if f.Name == doctor.KVMDevice && f.Status == doctor.OK && !probe.Usable && probe.Detail != "" {
			f.Status, f.Detail = doctor.Warn, "can be opened, but KVM didn't run a kernel (see below)"
		}
	}
}

// checkFirecracker looks for Firecracker on a host whose KVM runs it, and
// installs it if asked to. On others it would be of no use.
func checkFirecracker(ctx context.Context, e *env, host api.Host, fix bool) []doctor.Finding {
	if !host.KVM.Usable {
		return nil
	}
	f := doctor.Finding{Name: "firecracker", Status: doctor.OK, Detail: "VMs run on it"}
	if host.Driver == "firecracker" {
		return []doctor.Finding{f}
	}
	if !fix && hasFirecracker(e) {
		return nil // what bangerd chose instead, and why, is told already
	}
	if fix {
		there, err := installFirecracker(ctx, e, setupOptions{}, setup.Pinned())
		if err == nil {
			f.Detail = there.Firecracker
			return []doctor.Finding{f}
		}
		e.notice("%v", err)
	}
	f.Status, f.Detail, f.Cost = doctor.Warn, "not found", "VMs run on QEMU, which starts slower"
	f.Advice = "banger setup installs it, without root"
	return []doctor.Finding{f}
}

// hasFirecracker tells whether bangerd would find a Firecracker without a
// configured path.
func hasFirecracker(e *env) bool {
	if e.system.LookPath != nil {
		if _, err := e.system.LookPath("firecracker"); err == nil {
			return true
		}
	}
	layout, err := e.layout()
	if err != nil {
		return false
	}
	_, installed := setup.Installed(layout.FirecrackerDir())
	return installed
}

// printFindings prints what is there, what is missing, and a verdict.
func printFindings(e *env, report doctorReport) error {
	prefix := sudo(e)
	var text strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintf(&text, "%-4s  %s: %s\n", f.Status, f.Name, indent(f.Detail))
		if f.Cost != "" {
			fmt.Fprintf(&text, "      costs: %s\n", indent(f.Cost))
		}
		for _, fix := range f.Mend {
			fmt.Fprintf(&text, "      mend:  %s\n", strings.Join(append(prefix, fix.Argv...), " "))
		}
		if f.Advice != "" {
			fmt.Fprintf(&text, "      note:  %s\n", indent(f.Advice))
		}
	}
	if h := report.Host; h != nil && h.KVM.Detail != "" {
		fmt.Fprintf(&text, "      KVM was tried %s: %s\n", h.KVM.At.Local().Format("2006-01-02 15:04"), indent(h.KVM.Detail))
	}
	if report.Usable {
		text.WriteString("\nbanger can run VMs on this host\n")
	} else {
		text.WriteString("\nbanger can't run VMs on this host yet\n")
	}
	if _, err := fmt.Fprint(e.stdout, text.String()); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// sudo is what goes before a command that needs root.
func sudo(e *env) []string {
	if e.system.UID == 0 {
		return nil
	}
	return []string{"sudo"}
}

// mend runs the commands, with their output on stderr. What fails is reported
// and doesn't keep the others from running.
func mend(ctx context.Context, e *env, fixes []doctor.Fix) error {
	prefix := sudo(e)
	if len(prefix) > 0 && len(fixes) > 0 {
		if _, err := e.system.LookPath(prefix[0]); err != nil {
			e.notice("there is no sudo; run as root:")
			for _, fix := range fixes {
				e.notice("  %s", fix)
			}
			return nil
		}
	}
	for _, fix := range fixes {
		argv := append(prefix[:len(prefix):len(prefix)], fix.Argv...)
		e.notice("running: %s", strings.Join(argv, " "))
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.rawStderr, e.rawStderr // the host's own tools
		if err := cmd.Run(); err != nil {
			e.notice("%s: %v", argv[0], err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
