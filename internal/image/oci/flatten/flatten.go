// Package flatten merges the layers of an OCI image into one tree, as if they
// were extracted over each other in order, and writes it as the entries of a tar.
// Nothing is extracted on the host: owners, devices and attributes need no
// rights, and names and links can't lead anywhere.
//
// The format of layers is
// https://github.com/opencontainers/image-spec/blob/main/layer.md.
package flatten

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
	"banger/internal/guard"
)

// Bounds on what layers may ask for, so that a small file that unpacks to
// something huge ends in an error.
const (
	defaultMaxBytes = 1 << 40
	// Entries, of all layers and with the directories that none lists, are kept
	// in memory until the tree is written: some 600 bytes for each.
	maxEntries  = 1 << 20
	maxMetadata = 256 << 20 // bytes of names, link targets and attributes
	// maxWalked bounds the time: the bytes of all paths that are followed, with
	// the symbolic links on the way, and of those that come of it.
	maxWalked = 2 << 30
)

// maxParallel bounds how many layers are read at once; each takes some
// megabytes for its decompressor.
const maxParallel = 4

// reportEvery is the least time between two progress events.
const reportEvery = 100 * time.Millisecond

// Layer is a layer in a file: a tar, plain or compressed with gzip or zstd.
type Layer struct {
	Path   string
	Offset int64  // where the layer starts in the file
	Size   int64  // as it is in the file
	Digest string // of that, e.g. "sha256:…"; empty if the file is not of a cache
	DiffID string // of the tar; checked unless empty
}

// Options are the parameters of Layers. The zero value is good.
type Options struct {
	// TempDir is where the contents of files are kept meanwhile, in one
	// nameless file; it needs as much room as the unpacked layers, the biggest
	// aside if the writer is a Placer. Empty means the directory of the first
	// layer.
	TempDir string
	// MaxBytes bounds the tree, holes included, and what all layers together
	// unpack to; 0 means 1 TiB.
	MaxBytes int64
	// Progress gets the phases "image-unpack" and "image-write".
	Progress api.ProgressFunc
}

// Stats tells what a tree has.
type Stats struct {
	Entries int64 // names, directories included
	Bytes   int64 // of the contents of files, holes included, hard links once
}

// Writer takes a tree entry by entry. A *tar.Writer is one.
type Writer interface {
	WriteHeader(*tar.Header) error
	io.Writer
}

// Layers merges layers, the lowest first, and writes the tree to w: directories
// before what is in them, names in order, every name once, hard links after the
// file that they are of. It is the same for the same layers.
//
// A layer that is damaged, or that can't be applied to those below it, is an
// api.CodeInvalid error that names the layer.
func Layers(ctx context.Context, layers []Layer, w Writer, opts Options) (Stats, error) {
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.TempDir == "" {
		opts.TempDir = os.TempDir()
		if len(layers) > 0 {
			opts.TempDir = filepath.Dir(layers[0].Path)
		}
	}
	kept, err := newSpool(opts.TempDir, opts.MaxBytes)
	if err != nil {
		return Stats{}, err
	}
	defer kept.Close()

	t, err := merge(ctx, layers, keepers(layers, w, kept), opts)
	if err != nil {
		return Stats{}, err
	}
	return emit(ctx, t, kept, w, opts.Progress)
}

// merge reads layers side by side and applies them in order.
func merge(ctx context.Context, layers []Layer, kept []keeper, opts Options) (*tree, error) {
	meter := newMeter(opts.Progress, "image-unpack", "unpacking layers", sumSizes(layers))
	defer meter.finish()
	budget := newBudget(opts.MaxBytes)
	read := make([]chan []entry, len(layers))
	for i := range read {
		read[i] = make(chan []entry, 1)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(min(maxParallel, runtime.GOMAXPROCS(0)) + 1) // one applies

	t := newTree(budget)
	group.Go(guard.ErrFunc("merge layers", func() error {
		for i := range layers {
			select {
			case entries := <-read[i]:
				if err := t.apply(ctx, i, entries); err != nil {
					return layerError(layers, i, err)
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}))
	for i, layer := range layers {
		group.Go(guard.ErrFunc("read a layer", func() error {
			entries, err := readLayer(ctx, layer, kept[i], budget, meter)
			if err != nil {
				return layerError(layers, i, err)
			}
			read[i] <- entries
			return nil
		}))
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return t, nil
}

// layerError says which layer is at fault. Errors of the host and of the
// context aren't the layer's.
func layerError(layers []Layer, i int, err error) error {
	name := fmt.Sprintf("layer %d of %d (%s)", i+1, len(layers), shortDigest(cmp.Or(layers[i].Digest, layers[i].DiffID)))
	var bad *badLayerError
	if errors.As(err, &bad) {
		return api.Errorf(api.CodeInvalid, "%s can't be used: %s", name, err).WithHint("%s", bad.hint)
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// badLayerError is an error that lies in the layer itself.
type badLayerError struct {
	msg   string
	hint  string
	spent bool // it is about a budget: the rest can't be done either
}

func (e *badLayerError) Error() string { return e.msg }

const publisherHint = "the image is broken or of a kind that banger doesn't know; ask its publisher"

func badLayer(format string, args ...any) error {
	return &badLayerError{msg: fmt.Sprintf(format, args...), hint: publisherHint}
}

// tooMuch is the error of a layer that asks for more than is left.
func tooMuch(format string, args ...any) error {
	return &badLayerError{msg: fmt.Sprintf(format, args...), hint: publisherHint, spent: true}
}

// budget is what is left of what all layers together may ask for.
type budget struct {
	entries, metadata, walked, unpacked atomic.Int64
}

func newBudget(maxBytes int64) *budget {
	b := &budget{}
	b.entries.Store(maxEntries)
	b.metadata.Store(maxMetadata)
	b.walked.Store(maxWalked)
	b.unpacked.Store(maxBytes)
	return b
}

// take counts an entry with so many bytes of metadata.
func (b *budget) take(metadata int) error {
	if b.entries.Add(-1) < 0 {
		return tooMuch("the image has more than %d files and directories", maxEntries)
	}
	if b.metadata.Add(-int64(metadata)) < 0 {
		return tooMuch("the names and attributes in the image take more than %d MiB", maxMetadata>>20)
	}
	return nil
}

// walk counts bytes of a path.
func (b *budget) walk(n int) error {
	if b.walked.Add(-int64(n)) < 0 {
		return tooMuch("the paths in the image are longer than %d MiB together", maxWalked>>20)
	}
	return nil
}

func sumSizes(layers []Layer) int64 {
	var sum int64
	for _, l := range layers {
		sum += l.Size
	}
	return sum
}

// shortDigest is how people see digests.
func shortDigest(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }
