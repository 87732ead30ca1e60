package sshd

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// localeArchive has the parts of a locale archive that matter here.
func localeArchive(t *testing.T, names string) []byte {
	t.Helper()
	const header = 56
	var b bytes.Buffer
	for _, n := range []uint32{archiveMagic, 0, header, 0, 0, header + 8, uint32(len(names)), 0} {
		if err := binary.Write(&b, binary.NativeEndian, n); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, header+8-b.Len()))
	b.WriteString(names)
	return b.Bytes()
}

func TestUnknownLocales(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "fr_FR.utf8"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "locale-archive"), localeArchive(t, "en_US.utf8\x00de_DE@euro\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment{
		"LANG": "en_US.UTF-8", "LC_TIME": "fr_FR.UTF-8", "LC_ALL": "", "LC_PAPER": "de_DE@euro", "LC_CTYPE": "C.UTF-8",
		"LC_NAME": "POSIX", "LC_MESSAGES": "ja_JP.UTF-8", "LC_NUMERIC": "../../etc", "LC_COLLATE": "US.utf8",
		"LC_TERMINAL": "iTerm2", "OTHER": "ja_JP.UTF-8",
	}
	want := maps.Clone(env)
	for _, name := range []string{"LC_MESSAGES", "LC_NUMERIC", "LC_COLLATE"} {
		delete(want, name)
	}
	if withoutUnknownLocales(env, dir); !maps.Equal(env, want) {
		t.Errorf("got %v", env)
	}
}

func TestOddLocaleArchives(t *testing.T) {
	good := localeArchive(t, "en_US.utf8\x00")
	for name, content := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-4], "header only": good[:20], "another file": bytes.Repeat([]byte("x"), 100),
		"far off": append(binary.NativeEndian.AppendUint32(nil, archiveMagic), bytes.Repeat([]byte{0xff}, 60)...),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "locale-archive"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if hasLocale("en_US.UTF-8", dir) {
			t.Errorf("%s: the locale is there", name)
		}
	}
}
