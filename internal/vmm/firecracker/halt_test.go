package firecracker

import (
	"os"
	"testing"
)

func TestEndsHalted(t *testing.T) {
	for console, want := range map[string]bool{
		"[    3.2] reboot: Power off not available: System halted instead\r\n": true,
		"boot\n[    3.2] reboot: System halted\r\n":                            true,
		"[    3.2] reboot: Power down":                                         true,
		"[    3.2] reboot: Power down\r\n\r\n":                                 true,
		"[    3.2] reboot: System halted\r\nlogin: ":                           false,
		"[    3.2] reboot: Restarting system\r\n":                              false,
		"echo reboot: System halted soon\r\n":                                  false,
		"":                                                                     false,
	} {
		if got := endsHalted(console); got != want {
			t.Errorf("%q: %v", console, got)
		}
	}
}

func TestHaltWatch(t *testing.T) {
	type look struct {
		halted bool
		runs   uint64
	}
	quiet := look{true, 7}
	for name, test := range map[string]struct {
		looks []look
		want  bool
	}{
		"halted":            {[]look{quiet, quiet, quiet, quiet, quiet}, true},
		"not long enough":   {[]look{quiet, quiet, quiet, quiet}, false},
		"still running":     {[]look{quiet, quiet, quiet, {true, 8}, {true, 8}, {true, 8}}, false},
		"says more":         {[]look{quiet, quiet, quiet, {false, 0}, quiet, quiet}, false},
		"halted a bit on":   {[]look{quiet, {true, 9}, {true, 9}, {true, 9}, {true, 9}, {true, 9}}, true},
		"silent":            {[]look{{false, 0}, {false, 0}, {false, 0}, {false, 0}, {false, 0}}, false},
		"processors unseen": {[]look{{true, 0}, {true, 0}, {true, 0}, {true, 0}, {true, 0}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var watch haltWatch
			got := false
			for _, l := range test.looks {
				got = watch.look(l.halted, l.runs)
			}
			if got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestContextSwitches(t *testing.T) {
	status := "Name:\tfc_vcpu 0\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t120\nnonvoluntary_ctxt_switches:\t3\n"
	if got := contextSwitches([]byte(status)); got != 123 {
		t.Errorf("got %d", got)
	}
	if _, err := vcpuRuns(os.Getpid()); err == nil {
		t.Error("this process has virtual processors")
	}
}
