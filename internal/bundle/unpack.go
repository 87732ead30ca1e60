package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"banger/internal/api"
	"banger/internal/download"
	"banger/internal/regularfile"
	"banger/internal/room"
	"banger/internal/weburl"
)

// defaultMaxBytes is more than any image that would be of use.
const defaultMaxBytes = 1 << 40

// maxWindow bounds the memory that decoding takes; it is what zstd(1) takes
// without being told otherwise.
const maxWindow = 128 << 20

// Options says how to unpack. The zero value is fine for a file.
type Options struct {
	SHA256   string                           // that the bundle must have, in hex; "": any
	CacheDir string                           // where a download goes, until it is unpacked
	MaxBytes int64                            // of all files together, holes included; 0: 1 TiB
	Allowed  func(name string) bool           // which files may be in the bundle besides manifest.json; nil: any
	Report   func(detail string, percent int) // how far it is, up to 98; nil: nobody asks
	Client   *http.Client                     // nil: one that takes proxies from the environment
	Retry    *download.Retry                  // nil: transfer.DefaultRetry
	Log      *slog.Logger                     // nil: none
}

// Unpack writes the files of the bundle at source, a URL of http or https or
// an absolute path, into the empty directory dir, and returns the bundle's
// sha256. Blocks of zeros become holes. After an error the caller is to remove
// dir; what was downloaded so far stays in CacheDir for the next time.
//
// A bundle from a URL is complete and has the right sum before any of it is
// unpacked; one in a file is checked while it is. A bundle that is cut short,
// damaged, or not a bundle, is an api.CodeInvalid error that names source.
func Unpack(ctx context.Context, source, dir string, o Options) (string, error) {
	o.SHA256 = strings.ToLower(o.SHA256)
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Report == nil {
		o.Report = func(string, int) {}
	}
	u := &unpacking{Options: o, source: source}
	if IsURL(source) {
		return u.fromURL(ctx, dir)
	}
	f, err := openSource(source)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return u.extract(ctx, f, dir, 0)
}

// openSource opens a bundle in a file.
func openSource(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, api.Errorf(api.CodeInvalid, "%q is neither a URL of http or https nor an absolute path", path)
	}
	f, err := regularfile.Open(path, 0)
	switch {
	case errors.Is(err, regularfile.ErrNotRegular):
		return nil, api.Errorf(api.CodeInvalid, "%s is not a regular file", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, api.Errorf(api.CodeNotFound, "there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, api.Errorf(api.CodeHost, "the bundle can't be read: %v", err)
	case err != nil:
		return nil, fmt.Errorf("open the bundle: %w", err)
	}
	return f, nil
}

// IsSource reports whether ref is something that Unpack could read: a URL or an
// absolute path.
func IsSource(ref string) bool { return IsURL(ref) || filepath.IsAbs(ref) }

// NameOf returns a name after that of a bundle's file, for one whose manifest
// has none.
func NameOf(source string) string {
	if u, err := url.Parse(source); err == nil {
		source = u.Path
	}
	name := path.Base(source)
	for _, suffix := range []string{".tar.zst", ".tzst", ".zst", ".bundle"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// Redact returns a source without the password that a URL may have, so that it
// can be shown and stored.
func Redact(source string) string {
	if u, err := url.Parse(source); err == nil && u.User != nil {
		u.User = nil
		return u.String()
	}
	return source
}

// Doing says for people what Unpack does with a source.
func Doing(source string) string {
	if IsURL(source) {
		return "pulling"
	}
	return "unpacking"
}

// IsURL reports whether Unpack takes source for a URL.
func IsURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// unpacking is one call of Unpack.
type unpacking struct {
	Options
	source string // for errors
}

// fromURL downloads the bundle, unpacks it and removes it again.
func (u *unpacking) fromURL(ctx context.Context, dir string) (string, error) {
	address := u.source
	u.source = weburl.Redact(address)
	name := sha256.Sum256([]byte(address))
	path := filepath.Join(u.CacheDir, hex.EncodeToString(name[:16])+".bundle")
	options := download.Options{
		SHA256:   u.SHA256,
		MaxBytes: u.MaxBytes,
		Progress: newDownloadReport(u.Report),
		Client:   u.Client,
		Retry:    u.Retry,
		Log:      u.Log,
	}
	for {
		if err := download.File(ctx, address, path, options); err != nil {
			return "", err
		}
		f, err := regularfile.Open(path, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another unpacking of the same URL has just removed it
		}
		if err != nil {
			return "", fmt.Errorf("open the downloaded bundle: %w", err)
		}
		defer f.Close()
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("remove a downloaded bundle: %w", err)
		}
		return u.extract(ctx, f, dir, downloadShare)
	}
}

// extract unpacks f into dir. Percentages begin at from.
func (u *unpacking) extract(ctx context.Context, f *os.File, dir string, from int) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	report := newExtractReport(u.Report, from, info.Size())
	raw := &hashReader{r: &contextReader{ctx: ctx, r: f, onRead: report.read}, hash: sha256.New()}
	dec, err := newDecoder(raw)
	if err != nil {
		return "", err
	}
	defer dec.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open the directory to unpack into: %w", err)
	}
	defer root.Close()
	x := &extraction{unpacking: u, root: root, left: u.MaxBytes, seen: make(map[string]bool), report: report}
	if err := x.all(ctx, dec); err != nil {
		return "", room.Explain(err, dir)
	}
	sum := hex.EncodeToString(raw.hash.Sum(nil))
	if u.SHA256 != "" && sum != u.SHA256 {
		return "", api.Errorf(api.CodeInvalid, "%s is not the bundle that is expected: its sha256 is %s instead of %s", u.source, sum, u.SHA256).
			WithHint("it was changed or damaged; nothing of it was used")
	}
	return sum, nil
}

// damaged explains an error of reading the bundle itself.
func (u *unpacking) damaged(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return api.Errorf(api.CodeInvalid, "the bundle %s is cut short", u.source).WithHint("get it anew")
	case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, zstd.ErrReservedBlockType):
		return u.invalid("it is no tar archive compressed with zstd, or holds something else after one")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return u.invalid("it takes too much memory to decompress: compress it with a window of at most 128 MiB")
	case errors.Is(err, zstd.ErrCRCMismatch):
		return u.invalid("its checksum is wrong")
	case errors.Is(err, tar.ErrHeader):
		return u.invalid("it holds no tar archive, or a damaged one")
	}
	return u.invalid("%v", err)
}

// invalid is the error about a bundle that is not as it must be.
func (u *unpacking) invalid(format string, args ...any) error {
	return api.Errorf(api.CodeInvalid, "%s is not a bundle that can be used: %s", u.source, fmt.Sprintf(format, args...))
}

// hashReader hashes what is read.
type hashReader struct {
	r    io.Reader
	hash hash.Hash
}

func (r *hashReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.hash.Write(p[:n])
	return n, err
}
