package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/cli/termtext"
	"banger/internal/doctor"
	"banger/internal/paths"
	"banger/internal/setup"
)

// A device that can be opened is no good news where bangerd saw that KVM runs
// nothing.
func TestTellProbe(t *testing.T) {
	unusable := api.KVMProbe{Detail: "no answer within 10s"}
	for _, tt := range []struct {
		name  string
		probe api.KVMProbe
		was   doctor.Status
		want  doctor.Status
	}{
		{"it runs nothing", unusable, doctor.OK, doctor.Warn},
		{"it runs", api.KVMProbe{Usable: true, Detail: "booted"}, doctor.OK, doctor.OK},
		{"not tried", api.KVMProbe{}, doctor.OK, doctor.OK},
		{"can't be opened", unusable, doctor.Warn, doctor.Warn},
	} {
		findings := []doctor.Finding{{Name: "git", Status: doctor.OK}, {Name: doctor.KVMDevice, Status: tt.was, Detail: "as seen"}}
		tellProbe(findings, tt.probe)
		if findings[0].Status != doctor.OK || findings[1].Status != tt.want || (findings[1].Detail == "as seen") != (tt.was == tt.want) {
			t.Errorf("%s: %+v", tt.name, findings)
		}
	}
}

// Firecracker is of use only where KVM is, and is installed only if asked for.
func TestCheckFirecracker(t *testing.T) {
	kvm := api.Host{Driver: "qemu", KVM: api.KVMProbe{Usable: true}}
	var stderr bytes.Buffer
	e := &env{stderr: termtext.NewWriter(&stderr), rawStderr: &stderr, now: time.Now, located: true, location: paths.Layout{Data: t.TempDir(), Cache: t.TempDir()}}
	if found := checkFirecracker(t.Context(), e, api.Host{Driver: "qemu"}, true); found != nil {
		t.Errorf("without KVM: %+v", found)
	}
	running := kvm
	running.Driver = "firecracker"
	if found := checkFirecracker(t.Context(), e, running, true); len(found) != 1 || found[0].Status != doctor.OK {
		t.Errorf("where it runs: %+v", found)
	}
	if found := checkFirecracker(t.Context(), e, kvm, false); len(found) != 1 || found[0].Status != doctor.Warn || found[0].Advice == "" {
		t.Errorf("where it is missing: %+v", found)
	}
	release := setup.Pinned()
	dir := filepath.Join(e.location.FirecrackerDir(), release.Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := []byte("#!/bin/sh\necho Firecracker " + release.Version + "\n")
	for _, name := range []string{"firecracker", "jailer"} {
		if err := os.WriteFile(filepath.Join(dir, name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Where it is there, bangerd had its reasons to choose QEMU.
	if found := checkFirecracker(t.Context(), e, kvm, false); found != nil {
		t.Errorf("where QEMU was chosen: %+v", found)
	}
	found := checkFirecracker(t.Context(), e, kvm, true)
	if len(found) != 1 || found[0].Status != doctor.OK || found[0].Detail != filepath.Join(dir, "firecracker") {
		t.Errorf("with --fix: %+v\n%s", found, stderr.String())
	}
}
