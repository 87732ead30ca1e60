package firecracker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/vmm"
	"banger/internal/vmm/vmmtest"
)

// TestFakeConformance checks the driver against a fake Firecracker of the
// oldest and of the newest release.
func TestFakeConformance(t *testing.T) {
	for _, release := range []string{oldest.String(), newestFake} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			shared := fakeFiles(t)
			vmmtest.Run(t, func(t *testing.T) vmmtest.Fixture {
				return vmmtest.Fixture{
					Driver:      newFakeDriver(t, release),
					NewSpec:     func(t *testing.T) vmm.Spec { return newSpec(t, shared) },
					Break:       func(s *vmm.Spec) { s.NIC.Tap = "no such tap" },
					PowerButton: true,
				}
			})
		})
	}
}

// startFake starts a VM that ends with the test.
func startFake(t *testing.T, change func(*vmm.Spec)) (vmm.Machine, vmm.Spec, error) {
	t.Helper()
	spec := newSpec(t, fakeFiles(t))
	change(&spec)
	m, err := newFakeDriver(t, newestFake).Start(t.Context(), spec)
	if err == nil {
		t.Cleanup(func() {
			if err := errors.Join(m.Kill(context.Background()), m.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	return m, spec, err
}

func TestExitReasons(t *testing.T) {
	for behaviour, want := range map[string]string{
		"guest=panic": "the guest's kernel panicked: No working init found.",
		"guest=fail":  "Firecracker failed with status 148: it made a system call that its filter forbids: Shutting down VM",
	} {
		t.Run(behaviour, func(t *testing.T) {
			m, _, err := startFake(t, func(s *vmm.Spec) { s.Cmdline = behaviour })
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-m.Done():
			case <-time.After(time.Minute):
				t.Fatal("it goes on")
			}
			if got := m.ExitReason(); !strings.Contains(got, want) {
				t.Errorf("exit reason is %q, want %q", got, want)
			}
		})
	}
}

func TestStartExplains(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*vmm.Spec)
		want   string
		code   api.Code
	}{
		"no kernel":    {func(s *vmm.Spec) { s.Kernel += ".gone" }, "the kernel can't be opened: no such file or directory", api.CodeHost},
		"no initramfs": {func(s *vmm.Spec) { s.Initramfs += ".gone" }, "the initramfs can't be opened: no such file", api.CodeHost},
		"no disk":      {func(s *vmm.Spec) { s.Drives[1].Path += ".gone" }, "a disk can't be opened: no such file", api.CodeHost},
		"no ELF":       {func(s *vmm.Spec) { s.Kernel = s.Initramfs }, "the kernel is no ELF file", api.CodeInvalid},
		"many vCPUs":   {func(s *vmm.Spec) { s.VCPUs = 33 }, "1 to 32 vCPUs, not 33", api.CodeInvalid},
		"same drive":   {func(s *vmm.Spec) { s.Drives[0].Path = s.Drives[1].Path }, "would have the same serial", api.CodeInternal},
		"same id":      {func(s *vmm.Spec) { s.Drives[0].ID = s.Drives[1].ID }, "used twice", api.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			_, spec, err := startFake(t, test.change)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if code := api.AsError(err).Code; code != test.code {
				t.Errorf("code is %s, want %s", code, test.code)
			}
			if left, err := os.ReadDir(spec.RuntimeDir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestStartRefusesOldReleases(t *testing.T) {
	_, err := newFakeDriver(t, "1.11.0").Start(t.Context(), newSpec(t, fakeFiles(t)))
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "1.11.0 is too old; 1.12.0 is the oldest") {
		t.Errorf("got %v", err)
	}
}

func TestStartReportsAnEarlyEnd(t *testing.T) {
	driver := New(Config{Binary: "/bin/false", Log: testLog(t)})
	_, err := driver.Start(t.Context(), newSpec(t, fakeFiles(t)))
	if !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "ended at once: Firecracker failed with status 1") {
		t.Errorf("got %v", err)
	}
}

func TestStartRemovesStaleSockets(t *testing.T) {
	if _, _, err := startFake(t, func(s *vmm.Spec) {
		for _, name := range []string{apiSocket, vsockSocket} {
			if err := os.WriteFile(filepath.Join(s.RuntimeDir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}); err != nil {
		t.Error(err)
	}
}

func TestStartUsesOneConnection(t *testing.T) {
	m, spec, err := startFake(t, func(*vmm.Spec) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := readLogTail(filepath.Join(spec.StateDir, logName), 1<<20)
	if got := strings.Count(log, "] connection\n"); got != 1 {
		t.Errorf("%d connections were made:\n%s", got, log)
	}
}

func TestConsoleOfTheLastBootIsKept(t *testing.T) {
	_, spec, err := startFake(t, func(s *vmm.Spec) {
		if err := os.WriteFile(s.Console, []byte("last boot\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := vmm.ReadTail(vmm.PreviousLog(spec.Console), 100); got != "last boot\n" {
		t.Errorf("kept %q", got)
	}
}

func TestDialGuestLosesNothing(t *testing.T) {
	m, _, err := startFake(t, func(s *vmm.Spec) { s.Cmdline = "guest=slow" })
	if err != nil {
		t.Fatal(err)
	}
	conn, err := m.DialGuest(t.Context(), guest.PortSSH)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if want := "SSH-2.0-fake\r\nhello5 bytes, then EOF\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestDialGuestWaitsForADriver(t *testing.T) {
	m, _, err := startFake(t, func(s *vmm.Spec) { s.Cmdline = "guest=nomodule" })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.DialGuest(ctx, guest.PortControl); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := m.DialGuest(context.Background(), guest.PortControl)
		result <- err
	}()
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, vmm.ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAdoptChecksTheInstance(t *testing.T) {
	m, spec, err := startFake(t, func(*vmm.Spec) {})
	if err != nil {
		t.Fatal(err)
	}
	driver := newFakeDriver(t, newestFake)
	other := spec
	other.ID = "fffffffffff0"
	if _, err := driver.Adopt(t.Context(), other, m.Handle()); err == nil || !strings.Contains(err.Error(), "it calls itself") {
		t.Errorf("adopt as another VM: %v", err)
	}
	h := m.Handle()
	h.Driver = "qemu"
	if _, err := driver.Adopt(t.Context(), spec, h); err == nil {
		t.Error("another driver's VM was adopted")
	}
}
