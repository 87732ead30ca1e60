package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/kernel"
	"banger/internal/paths"
	"banger/internal/setup"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/qemu"
)

// newDrivers returns drivers on a host with nothing but the given programs.
func newDrivers(t *testing.T, driver string, programs ...string) *drivers {
	t.Helper()
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	for _, name := range programs {
		installProgram(t, filepath.Join(bin, name))
	}
	c := config.Default()
	c.Driver = driver
	return &drivers{config: c, layout: paths.Layout{Data: t.TempDir(), Cache: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
}

// installProgram makes a program that fails at once.
func installProgram(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func someKernel(t *testing.T) kernel.Kernel {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return kernel.Kernel{Vmlinux: path}
}

const qemuProgram = "qemu-system-x86_64"

// TestChoose: neither program boots a kernel, so KVM can't be used.
func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		driver   string
		programs []string
		nested   bool
		want     string // driver and accelerator, or part of the error
		code     api.Code
	}{
		"auto falls back":        {"auto", []string{firecracker.Name, qemuProgram}, false, "qemu tcg", ""},
		"nested":                 {"auto", []string{firecracker.Name, qemuProgram}, true, "qemu tcg", ""},
		"QEMU only":              {"auto", []string{qemuProgram}, false, "qemu tcg", ""},
		"QEMU as configured":     {"qemu", []string{firecracker.Name, qemuProgram}, false, "qemu tcg", ""},
		"as configured":          {"firecracker", []string{firecracker.Name}, false, "firecracker kvm", ""},
		"configured, not there":  {"firecracker", []string{qemuProgram}, false, "Firecracker isn't installed", api.CodeHost},
		"nested on Firecracker":  {"firecracker", []string{firecracker.Name}, true, "can't run VMs itself", api.CodeInvalid},
		"nothing there":          {"auto", nil, false, "QEMU isn't installed", api.CodeHost},
		"no KVM, and no QEMU":    {"auto", []string{firecracker.Name}, false, "KVM can't be used here", api.CodeHost},
		"nested needs QEMU only": {"auto", []string{firecracker.Name}, true, "QEMU isn't installed", api.CodeHost},
	} {
		t.Run(name, func(t *testing.T) {
			choice, err := newDrivers(t, c.driver, c.programs...).Choose(t.Context(), someKernel(t), c.nested)
			if c.code != "" {
				if e := api.AsError(err); err == nil || e.Code != c.code || !strings.Contains(e.Msg, c.want) || e.Hint == "" {
					t.Errorf("got %v, want %s with %q and a hint", err, c.code, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := choice.Driver.Name() + " " + choice.Accel; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestFindFirecrackerThatSetupInstalled(t *testing.T) {
	d := newDrivers(t, "auto")
	if _, err := d.findFirecracker(); !errors.Is(err, api.ErrHost) {
		t.Errorf("without one: %v", err)
	}
	dir := filepath.Join(d.layout.FirecrackerDir(), setup.Pinned().Version)
	installProgram(t, filepath.Join(dir, "firecracker"))
	installProgram(t, filepath.Join(dir, "jailer"))
	got, err := d.findFirecracker()
	if err != nil || got != filepath.Join(dir, "firecracker") {
		t.Errorf("got %q, %v", got, err)
	}
	if jailer := d.jailer(got); jailer.Binary != filepath.Join(dir, "jailer") || jailer.Mode != firecracker.JailerAuto {
		t.Errorf("got %+v", jailer)
	}
}

func TestNamed(t *testing.T) {
	d := newDrivers(t, "auto")
	for _, name := range []string{qemu.Name, firecracker.Name} {
		if got, err := d.Named(name); err != nil || got.Name() != name {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if _, err := d.Named("other"); err == nil {
		t.Error("an unknown driver was returned")
	}
}
