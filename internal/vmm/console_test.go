package vmm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindPanic(t *testing.T) {
	console := filepath.Join(t.TempDir(), "console.log")
	begin := func(said string) {
		t.Helper()
		if err := BeginConsole(console, "it (kvm)"); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(console, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(said); err != nil {
			t.Fatal(err)
		}
	}
	begin("[    1.3] Kernel panic - not syncing: no root\r\n[    1.4] CPU: 0\r\n")
	if got := FindPanic(ReadTail(console, ConsoleTail)); got != "no root" {
		t.Errorf("found %q", got)
	}
	begin("[    0.1] Linux version 6.12\r\n")
	all := ReadTail(console, ConsoleTail)
	if got := FindPanic(all); got != "" {
		t.Errorf("found %q of an earlier boot", got)
	}
	if got := LastBoot(all); !strings.HasPrefix(got, "[    0.1]") {
		t.Errorf("the last boot is %q", got)
	}
}

func TestOOMKills(t *testing.T) {
	stat, err := os.ReadFile("/proc/vmstat")
	if err != nil || !strings.Contains(string(stat), "oom_kill ") {
		t.Skip("this kernel doesn't count")
	}
	if a, b := OOMKills(), OOMKills(); b < a {
		t.Errorf("the count went from %d to %d", a, b)
	}
}
