// Package mkext4 makes read-only ext4 files of directory trees by mke2fs(8).
package mkext4

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"banger/internal/hosttool"

	"github.com/google/uuid"
)

// Tool returns the program that makes the file systems.
func Tool() hosttool.Tool { return hosttool.Tool{Name: "mke2fs", Package: "e2fsprogs"} }

const (
	blockSize = 4096
	inodeSize = 256
	// shortLink is the longest symbolic link target that ext4 keeps in the
	// inode, plus one: EXT4_N_BLOCKS * 4.
	shortLink = 60
	// slack is for superblocks, group descriptors, bitmaps, the extent trees
	// of fragmented files and attributes that don't fit into an inode.
	slack = 8 << 20
)

// Make writes the tree below src, with its owners, modes and extended
// attributes as they are seen here, into the new file dst. The file system is
// as big as its content needs, has no journal, and is meant to be mounted
// read-only. label is at most 16 bytes; it also seeds the UUID and the hash
// seed, so that these don't differ from build to build.
func Make(ctx context.Context, src, dst, label string, log *slog.Logger) error {
	need, err := measure(src)
	if err != nil {
		return fmt.Errorf("measure %s: %w", src, err)
	}
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte("banger ext4 "+label)).String()
	args := []string{
		"-q", "-F", "-t", "ext4",
		"-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize),
		"-N", strconv.FormatInt(need.inodes+need.inodes/50+64, 10),
		// Neither a journal, nor reserved blocks, nor room to grow: nobody
		// ever writes to it.
		"-O", "^has_journal,^resize_inode", "-m", "0",
		"-L", label, "-U", id,
		"-E", "hash_seed=" + id + ",root_owner=0:0",
		"-d", src, dst, strconv.FormatInt(need.blocks(), 10),
	}
	var env []string
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		// e2fsprogs before 1.47.1 knows this name only.
		env = append(env, "E2FSPROGS_FAKE_TIME="+epoch)
	}
	if err := hosttool.Run(ctx, hosttool.Command{Tool: Tool(), Args: args, Env: env, Log: log}); err != nil {
		return fmt.Errorf("make the file system %s: %w", filepath.Base(dst), err)
	}
	return nil
}

// need is what a tree takes up in an ext4 file system.
type need struct {
	data   int64 // blocks of content and directories
	inodes int64
}

// blocks returns the size of a file system that holds the tree.
func (n need) blocks() int64 {
	inodeTable := (n.inodes + n.inodes/50 + 64) * inodeSize / blockSize
	// A group of 32768 blocks has two bitmaps and its inode table; the
	// fiftieth covers these, extent blocks and hash tree blocks.
	return n.data + n.data/50 + inodeTable + slack/blockSize
}

// measure adds up the tree below root. Hard links count once.
func measure(root string) (need, error) {
	type file struct{ dev, ino uint64 }
	seen := make(map[file]bool)
	names := make(map[string]int64) // directory → bytes of entries
	n := need{inodes: 11}           // the reserved ones and lost+found
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// struct ext4_dir_entry_2: 8 bytes and the name, padded to 4.
		names[filepath.Dir(path)] += int64(8+len(d.Name())+3) &^ 3
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !d.IsDir() && st.Nlink > 1 {
			key := file{st.Dev, st.Ino}
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		n.inodes++
		switch {
		case d.IsDir():
			n.data++
		case info.Mode().IsRegular(), info.Mode()&fs.ModeSymlink != 0 && info.Size() >= shortLink:
			n.data += (info.Size() + blockSize - 1) / blockSize
		}
		return nil
	})
	for _, bytes := range names {
		// Every directory has one block already; entries never span blocks
		// and hash trees split full ones in halves.
		n.data += 2 * bytes / blockSize
	}
	return n, err
}
