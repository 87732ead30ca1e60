package sshd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func uid(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func etc(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLookupUser(t *testing.T) {
	dir := etc(t, map[string]string{
		"passwd": "# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken:x:y:0::/:\nshort:x:5\n+\nann:x:1000:100:Ann,,,:/home/ann:/bin/sh\n",
		"group":  "root:x:0:\nusers:x:100:ann\ndocker:x:998:bob,ann\nanna:x:7:anna\ntty:x:5:\n",
	})
	got, err := lookupUser(dir, "ann")
	if err != nil {
		t.Fatal(err)
	}
	want := account{name: "ann", uid: 1000, gid: 100, groups: []uint32{100, 998}, home: "/home/ann", shell: "/bin/sh"}
	if diff := cmp.Diff(want, *got, cmp.AllowUnexported(account{})); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"", "+", "nobody", "broken", "short", "# comment", ":0", "-1", "4294967295", "ann:", "ann:nogroup", "ann:docker:x"} {
		if got, err := lookupUser(dir, name); err == nil {
			t.Errorf("%q is %+v", name, got)
		}
	}
	if gid, ok, err := groupID(filepath.Join(dir, "group"), "tty"); !ok || gid != 5 || err != nil {
		t.Errorf("group tty: %d, %v, %v", gid, ok, err)
	}
}

func TestLookupUserByNumber(t *testing.T) {
	dir := etc(t, map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n77:x:5:5::/five:/bin/sh\n",
		"group":  "users:x:100:ann\ndocker:x:998:ann\n",
	})
	for login, want := range map[string]account{
		"1000":       {name: "ann", uid: 1000, gid: 100, groups: []uint32{100, 998}, home: "/home/ann", shell: "/bin/sh"},
		"ann:docker": {name: "ann", uid: 1000, gid: 998, groups: []uint32{998}, home: "/home/ann", shell: "/bin/sh"},
		"1000:5000":  {name: "ann", uid: 1000, gid: 5000, groups: []uint32{5000}, home: "/home/ann", shell: "/bin/sh"},
		"77":         {name: "77", uid: 77, groups: []uint32{0}, home: "/"},
		"77:docker":  {name: "77", uid: 77, gid: 998, groups: []uint32{998}, home: "/"},
		"0":          {name: "root", groups: []uint32{0}, home: "/root", shell: "/bin/sh"},
	} {
		if want.shell == "" {
			want.shell = usableShell("")
		}
		got, err := lookupUser(dir, login)
		if err != nil {
			t.Errorf("%s: %v", login, err)
			continue
		}
		if diff := cmp.Diff(want, *got, cmp.AllowUnexported(account{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", login, diff)
		}
	}
	empty := t.TempDir()
	if got, err := lookupUser(empty, "12:34"); err != nil || got.uid != 12 || got.gid != 34 {
		t.Errorf("numbers in an empty image: %+v, %v", got, err)
	}
	for login, want := range map[string]string{"eve": "no user named eve", "ann:eve": "no group named eve"} {
		if _, err := lookupUser(dir, login); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", login, err)
		}
	}
}

func TestShellThatRefusesLoginsIsReplaced(t *testing.T) {
	for _, shell := range []string{"/usr/sbin/nologin", "/bin/false", "/no/such/shell"} {
		if got := usableShell(shell); got == shell || !isProgram(got) {
			t.Errorf("%s is replaced by %s", shell, got)
		}
	}
}

func TestRootOfAnEmptyImage(t *testing.T) {
	dir := t.TempDir()
	got, err := lookupUser(dir, "root")
	if err != nil || got.uid != 0 || got.home != "/root" || got.shell == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, ok, _ := groupID(filepath.Join(dir, "group"), "tty"); ok {
		t.Error("there is a group")
	}
}

func TestParseEnvironment(t *testing.T) {
	got := parseEnvironment("# comment\nA=1\n export B=\"two words\" # why\nC='x'\nD=\nE=a=b\n=x\nno\nF G=1\nH=\"open\n")
	want := environment{"A": "1", "B": "two words", "C": "x", "D": "", "E": "a=b", "H": `"open`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoginEnvironmentPrecedence(t *testing.T) {
	dir := etc(t, map[string]string{"environment": "PATH=/etc/path\nA=file\nB=file\n"})
	user := &account{name: "ann", uid: 1000, home: "/home/ann", shell: "/bin/sh"}
	env := loginEnvironment(user, []string{filepath.Join(dir, "missing"), filepath.Join(dir, "environment")}, map[string]string{"B": "config"})
	for name, want := range map[string]string{"PATH": "/etc/path", "A": "file", "B": "config", "HOME": "/home/ann"} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	for name := range env { // there is no address that would be a client's
		if strings.HasPrefix(name, "SSH_") {
			t.Errorf("%s is set", name)
		}
	}
}

func TestImageEnvironmentWinsOverTheAccounts(t *testing.T) {
	dir := etc(t, map[string]string{"environment": "PATH=/etc/path\n"})
	image := map[string]string{"PATH": "/usr/local/go/bin:/bin", "HOME": "/app"}
	env := loginEnvironment(&account{name: "ann", home: "/home/ann"}, []string{filepath.Join(dir, "environment")}, image)
	for name, want := range image {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
}

func TestCiphersOfferOnlyTheQuickOnes(t *testing.T) {
	for emulated, want := range map[bool]string{false: ssh.CipherAES128GCM, true: ssh.CipherChaCha20Poly1305} {
		got := ciphers(emulated)
		all := strings.Join(got, " ")
		if got[0] != want || strings.Contains(all, "gcm") && strings.Contains(all, "chacha") {
			t.Errorf("emulated %v: %q", emulated, got)
		}
	}
}
