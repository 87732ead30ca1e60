package oci

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"banger/internal/image/ext4"
	"banger/internal/image/oci/flatten"
	lt "banger/internal/image/oci/layertest"
)

// The same layers give the same image, however their reading happens to be
// scheduled.
func TestImagesAreReproducible(t *testing.T) {
	var layers []flatten.Layer
	for _, data := range [][]byte{
		lt.Tar(t, lt.Reg("a", "1"), lt.Reg("b", "2"), lt.Reg("only/low", "3")),
		randomTar(t, "big", 3<<20),
		lt.Tar(t, lt.Reg("a", "4"), lt.Whiteout("b"), lt.Reg("x/y", "5").Xattr("user.long", string(make([]byte, 900)))),
		randomTar(t, "other", 1<<20),
	} {
		file := lt.Gzip(t, data)
		layers = append(layers, flatten.Layer{Path: lt.WriteFile(t, file), Size: int64(len(file)), Digest: lt.Digest(file), DiffID: lt.Digest(data)})
	}
	var first []byte
	for range 3 {
		path := filepath.Join(t.TempDir(), "image")
		err := ext4.Create(context.Background(), path, func(w *ext4.Writer) error {
			_, err := flatten.Layers(context.Background(), layers, w, flatten.Options{})
			return err
		}, ext4.Options{})
		if err != nil {
			t.Fatal(err)
		}
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, image) {
			t.Fatal("two images of the same layers differ")
		}
		first = image
	}
}
