package agent

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"banger/internal/guest"
	"banger/internal/tartest"
)

// fenced is a directory to unpack into, with neighbours that must stay as they
// are.
type fenced struct{ top, outside, secret, before string }

func newFenced(t *testing.T) fenced {
	t.Helper()
	f := fenced{outside: t.TempDir()}
	f.top, f.secret = filepath.Join(f.outside, "top"), filepath.Join(f.outside, "usr")
	if err := os.WriteFile(f.secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(f.outside, "d"), 0o711); err != nil {
		t.Fatal(err)
	}
	f.before = f.describe(t)
	return f
}

// describe says all that an escape could change outside of top.
func (f fenced) describe(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(f.outside, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == f.top {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d", path, info.Mode(), st.Uid, st.Gid)
		if !d.IsDir() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %d links, of %v: %q %v", st.Nlink, info.ModTime(), content, err)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// check fails if anything outside has changed, or if more than so many bytes
// were unpacked, or files that only root should bring.
func (f fenced) check(t *testing.T, most int64) {
	t.Helper()
	if now := f.describe(t); now != f.before {
		t.Errorf("outside was\n%s and is now\n%s", f.before, now)
	}
	seen := map[uint64]bool{}
	var size int64
	err := filepath.WalkDir(f.top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch info.Mode().Type() {
		case 0, fs.ModeDir, fs.ModeSymlink:
		default:
			t.Errorf("%q is %v", path, info.Mode())
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			t.Errorf("%q has the mode %v", path, info.Mode())
		}
		if st := info.Sys().(*syscall.Stat_t); info.Mode().IsRegular() && !seen[st.Ino] {
			seen[st.Ino] = true
			size += st.Size
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if size > most {
		t.Errorf("%d bytes came of an archive of %d", size, most)
	}
}

func (f fenced) unpack(t *testing.T, stream []byte) error {
	t.Helper()
	x, err := newExtraction(f.top)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	return x.run(bytes.NewReader(stream))
}

// sparse is an archive with a file of so many bytes, none of which is in it: GNU
// tar's format 1.0 for sparse files.
func sparse(size int64) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	regular := tar.Header{Typeflag: tar.TypeReg, Name: "hole", Mode: 0o644, Size: 512, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"GNU.xparse.major": "1", "GNU.xparse.minor": "0", "GNU.xparse.realsize": fmt.Sprint(size),
	}}
	_ = w.WriteHeader(&regular) // nothing of this can fail
	_, _ = w.Write(append([]byte("0\n"), make([]byte, 510)...))
	_ = w.Close()
	return tartest.Checksums(bytes.ReplaceAll(b.Bytes(), []byte("GNU.xparse"), []byte("GNU.sparse"))) // which the writer refuses
}

// A few KiB stand for as many zeros as they say.
func TestExtractRefusesSparseFiles(t *testing.T) {
	fence := newFenced(t)
	if err := fence.unpack(t, sparse(1<<20)); err == nil {
		t.Error("a sparse file was unpacked")
	}
	fence.check(t, 0)
}

// FuzzExtract unpacks archives whose names and links lead to and fro. Absolute
// links lead to the neighbours.
func FuzzExtract(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 1, 0, 2, 4, 15, 0, 0, 0, 0, 2, 0, 15, 1, 0, 0, 0, 2, 0, 3})
	f.Add([]byte{2, 0, 0, 0, 1, 0, 2, 6, 3, 1, 0, 0x7f, 0, 1, 0, 3, 0, 0, 0, 1, 1, 3, 4, 15, 15})
	f.Add([]byte{1, 0, 1, 0, 2, 0, 1, 0, 9, 9, 0, 3, 0, 1, 2, 3, 0, 0, 0, 1, 3, 3, 0, 1, 2})
	f.Fuzz(func(t *testing.T, program []byte) {
		fence := newFenced(t)
		entries := tartest.Entries(program[:min(len(program), 300)])
		shorter := strings.NewReplacer(strings.Repeat("e/", 300), "e/e") // thousands of directories take their time
		for i := range entries {
			e := &entries[i]
			e.Name, e.Linkname = shorter.Replace(e.Name), shorter.Replace(e.Linkname)
			if strings.HasPrefix(e.Linkname, "/") {
				e.Linkname = fence.outside + e.Linkname
			}
		}
		stream := tartest.Tar(entries)
		_ = fence.unpack(t, stream)
		fence.check(t, int64(len(stream)))
	})
}

// FuzzExtractStream unpacks what no program has written.
func FuzzExtractStream(f *testing.F) {
	f.Add(tartest.Tar(tartest.Entries([]byte{0, 3, 0x64, 2, 2, 0, 1, 2, 0, 0, 0, 1, 2, 2, 4, 0})))
	f.Add(sparse(1 << 20))
	f.Fuzz(func(t *testing.T, data []byte) {
		fence := newFenced(t)
		_ = fence.unpack(t, tartest.Checksums(data))
		fence.check(t, int64(len(data)))
	})
}

// FuzzBootConfig reads the request to boot that a host sends, and writes what it
// says into a root filesystem whose links lead out.
func FuzzBootConfig(f *testing.F) {
	f.Add([]byte(`{"call":"boot","params":{"hostname":"web","mac":"52:54:00:00:00:01","dns":["10.0.0.1"],"env":{"A":"it's"},` +
		`"authorized_keys":["ssh-ed25519 A b"],"files":[{"path":"/root/.s","mode":384,"data":"c2VjcmV0"},{"path":"../../out/f","mode":2541}],` +
		`"work_dir":"out/w","real_dirs":["/root"],"time":"2024-02-03T04:05:06Z"}}` + "\n"))
	f.Add([]byte(`{"call":"boot","params":{"files":[{"path":"/"},{"path":""},{"path":"/etc"},{"path":"up/x/../y"}],"keep_files":["/etc/evil"],"work_dir":"/abs/.."}}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		c := &call{}
		if guest.ReadLine(bufio.NewReader(bytes.NewReader(line)), &c.request) != nil {
			return
		}
		var config guest.BootConfig
		if c.params(&config) != nil {
			return
		}
		checkRoundTrip(t, config)
		root, _, outside := newTestRoot(t)
		list := filepath.Join(t.TempDir(), "given")
		for range 2 {
			_, _ = rememberGiven(root, list, config)
			_ = makeWorkDir(root, config.WorkDir)
			_ = writeIdentity(root, config, len(line)%2 == 0, true)
			if warnings := writeFiles(root, config.Files); len(warnings) > len(config.Files) {
				t.Errorf("%d warnings of %d files", len(warnings), len(config.Files))
			}
		}
		if found, err := os.ReadDir(outside); err != nil || len(found) > 0 {
			t.Errorf("outside are %v (%v)", found, err)
		}
		if _, _, err := readGiven(list); err != nil {
			t.Errorf("the list that was written can't be read: %v", err)
		}
	})
}

// checkRoundTrip fails if a configuration isn't the same once it was sent on.
func checkRoundTrip(t *testing.T, config guest.BootConfig) {
	t.Helper()
	encoded, err := json.Marshal(config)
	if err != nil {
		return // a time that JSON can't hold
	}
	var again guest.BootConfig
	if err := json.Unmarshal(encoded, &again); err != nil {
		t.Fatalf("%s: %v", encoded, err)
	}
	twice, err := json.Marshal(again)
	if err != nil || !reflect.DeepEqual(encoded, twice) {
		t.Errorf("%s became %s (%v)", encoded, twice, err)
	}
}
