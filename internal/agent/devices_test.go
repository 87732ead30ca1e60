package agent

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/guest"
)

func makeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLookupDevice(t *testing.T) {
	class := t.TempDir()
	makeFiles(t, class, map[string]string{"vda/serial": "image\n", "vdb/serial": "disk", "sda/serial": "modules"})
	if got, err := lookupDevice(class, "/dev", "disk"); err != nil || got != "/dev/vdb" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := lookupDevice(class, "/dev", "modules"); err == nil || !strings.Contains(err.Error(), `"image"`) {
		t.Errorf("a missing disk: %v", err)
	}
}

func TestFindSerialPort(t *testing.T) {
	class := t.TempDir()
	makeFiles(t, class, map[string]string{"vport1p1/name": "org.qemu.guest_agent.0\n", "vport1p2/name": guest.SerialPortName + "\n"})
	if got, err := findSerialPort(class, "/dev"); err != nil || got != "/dev/vport1p2" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := findSerialPort(t.TempDir(), "/dev"); err != nil || got != "" {
		t.Errorf("without ports got %q, %v", got, err)
	}
}

func TestFilesystemByMagic(t *testing.T) {
	at := func(offset int, magic []byte) []byte { return append(make([]byte, offset), magic...) }
	for want, head := range map[string][]byte{
		"ext4":     at(1080, []byte{0x53, 0xEF}),
		"erofs":    at(1024, binary.LittleEndian.AppendUint32(nil, 0xE0F5E1E2)),
		"squashfs": []byte("hsqs"),
		"xfs":      []byte("XFSB"),
		"btrfs":    at(65600, []byte("_BHRfS_M")),
	} {
		if got, err := filesystemByMagic(head); err != nil || got != want {
			t.Errorf("%s is taken for %q (%v)", want, got, err)
		}
	}
	if got, err := filesystemByMagic(nil); err == nil {
		t.Errorf("an empty disk is taken for %q", got)
	}
}

func TestSystemState(t *testing.T) {
	answers := func(state string, failed string) func(...string) (string, error) {
		return func(args ...string) (string, error) {
			if args[0] == "is-system-running" {
				return state + "\n", errors.New("exit status 1")
			}
			return failed, nil
		}
	}
	if r, err := systemState(answers("running", "")); err != nil || r.State != "running" {
		t.Errorf("running: %+v, %v", r, err)
	}
	if r, err := systemState(answers("starting", "")); err != nil || r.State != "" {
		t.Errorf("starting: %+v, %v", r, err)
	}
	r, err := systemState(answers("degraded", "a.service loaded failed failed A\nb.mount loaded failed failed B\n"))
	if err != nil || r.State != "degraded" || strings.Join(r.Failed, " ") != "a.service b.mount" {
		t.Errorf("degraded: %+v, %v", r, err)
	}
	for _, state := range []string{"maintenance", "stopping", "nonsense"} {
		if r, err := systemState(answers(state, "")); err == nil {
			t.Errorf("%s: %+v", state, r)
		}
	}
}

func TestRuntimeSurvivesRestarts(t *testing.T) {
	f, err := runtime{Init: "/sbin/init", Systemd: true, Env: map[string]string{"A": "b"}}.save()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if r, err := loadRuntime(f); err != nil || r.Init != "/sbin/init" || !r.Systemd || r.Env["A"] != "b" {
			t.Errorf("got %+v, %v", r, err)
		}
	}
}

func TestBootIsTriedOnce(t *testing.T) {
	c := &initControl{log: slog.New(slog.DiscardHandler), stopListening: func() {}}
	if !c.asked.first() || c.asked.first() {
		t.Error("once isn't")
	}
	call := &call{request: guest.Request{Call: guest.CallBoot, Params: []byte("{}")}}
	if _, err := c.boot(call); err == nil {
		t.Error("a second boot was tried")
	}
}
