package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// Places in the file system that seal reads or writes, as in
// https://docs.kernel.org/filesystems/ext4/globals.html.
const (
	superOffset = 1024
	superSize   = 1024

	superBlocksCount    = 0x04
	superFirstBlock     = 0x14
	superLogBlockSize   = 0x18
	superBlocksPerGroup = 0x20
	superInodesPerGroup = 0x28
	superWriteTime      = 0x30
	superMagic          = 0x38
	superCheckTime      = 0x40
	superUUID           = 0x68
	superLabel          = 0x78
	superMadeTime       = 0x108

	magic     = 0xef53
	labelSize = 16

	groupSize        = 32 // of a descriptor without the 64bit feature
	groupInodeBitmap = 0x04
)

// identity is what tells one file system from another.
type identity struct {
	uuid  [16]byte
	label string
	made  time.Time
}

// seal gives a file system its identity and sets the bits of the inode bitmaps
// that stand for no inode, which tar2ext4 leaves clear and e2fsck(8) demands.
// Neither superblock nor bitmaps have checksums in such a file system.
func seal(f *os.File, id identity) error {
	super := make([]byte, superSize)
	if _, err := f.ReadAt(super, superOffset); err != nil {
		return fmt.Errorf("read the superblock: %w", err)
	}
	if m := binary.LittleEndian.Uint16(super[superMagic:]); m != magic {
		return fmt.Errorf("read the superblock: its magic number is %#x", m)
	}
	if err := padInodeBitmaps(f, super); err != nil {
		return fmt.Errorf("complete the inode bitmaps: %w", err)
	}
	copy(super[superUUID:], id.uuid[:])
	clear(super[superLabel : superLabel+labelSize])
	copy(super[superLabel:superLabel+labelSize], id.label)
	made := uint32(min(max(id.made.Unix(), 0), 1<<32-1))
	for _, field := range []int{superWriteTime, superCheckTime, superMadeTime} {
		binary.LittleEndian.PutUint32(super[field:], made)
	}
	if _, err := f.WriteAt(super, superOffset); err != nil {
		return fmt.Errorf("write the superblock: %w", err)
	}
	return nil
}

func padInodeBitmaps(f *os.File, super []byte) error {
	field := func(offset int) int64 { return int64(binary.LittleEndian.Uint32(super[offset:])) }
	blockSize := int64(1024) << field(superLogBlockSize)
	perGroup := field(superInodesPerGroup)
	if perGroup == 0 || perGroup%8 != 0 || perGroup > blockSize*8 || field(superBlocksPerGroup) == 0 {
		return fmt.Errorf("%d inodes in %d blocks per group", perGroup, field(superBlocksPerGroup))
	}
	groups := (field(superBlocksCount) - field(superFirstBlock) + field(superBlocksPerGroup) - 1) / field(superBlocksPerGroup)
	table := io.NewSectionReader(f, (field(superFirstBlock)+1)*blockSize, groups*groupSize)
	padding := make([]byte, blockSize-perGroup/8)
	for i := range padding {
		padding[i] = 0xff
	}
	group := make([]byte, groupSize)
	for range groups {
		if _, err := io.ReadFull(table, group); err != nil {
			return err
		}
		bitmap := int64(binary.LittleEndian.Uint32(group[groupInodeBitmap:]))
		if _, err := f.WriteAt(padding, bitmap*blockSize+perGroup/8); err != nil {
			return err
		}
	}
	return nil
}
