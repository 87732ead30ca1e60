package ext4

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestDiskACL(t *testing.T) {
	entry := func(tag, perm uint16, id uint32) []byte {
		b := binary.LittleEndian.AppendUint16(nil, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		return binary.LittleEndian.AppendUint32(b, id)
	}
	x := bytes.Join([][]byte{{2, 0, 0, 0}, entry(aclUserObj, 7, ^uint32(0)), entry(aclGroup, 5, 1000)}, nil)
	got, err := diskACL(x)
	want := []byte{1, 0, 0, 0, 1, 0, 7, 0, 8, 0, 5, 0, 0xe8, 3, 0, 0}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("diskACL = %x, %v; want %x", got, err, want)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut": x[:len(x)-1], "version": append([]byte{1}, x[1:]...),
		"kind": append(bytes.Clone(x), entry(0x40, 0, 0)...),
	} {
		if _, err := diskACL(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
