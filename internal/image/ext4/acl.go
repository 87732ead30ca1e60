package ext4

import (
	"encoding/binary"
	"fmt"
)

// The extended attributes that hold POSIX access control lists.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// The form that getxattr(2) gives, which is the one in tar files:
// include/uapi/linux/posix_acl_xattr.h.
const (
	aclXattrVersion   = 2
	aclXattrHeader    = 4
	aclXattrEntrySize = 8
)

// aclDiskVersion is EXT4_ACL_VERSION, fs/ext4/acl.h.
const aclDiskVersion = 1

// Tags of entries, include/uapi/linux/posix_acl.h.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// diskACL converts an access control list from its extended attribute to the
// form that ext4 stores: another version number, and an id only in the
// entries that name a user or group.
func diskACL(x []byte) ([]byte, error) {
	if len(x) < aclXattrHeader || (len(x)-aclXattrHeader)%aclXattrEntrySize != 0 {
		return nil, fmt.Errorf("it has %d bytes", len(x))
	}
	if v := binary.LittleEndian.Uint32(x); v != aclXattrVersion {
		return nil, fmt.Errorf("its version is %d", v)
	}
	disk := binary.LittleEndian.AppendUint32(nil, aclDiskVersion)
	for e := x[aclXattrHeader:]; len(e) > 0; e = e[aclXattrEntrySize:] {
		tag := binary.LittleEndian.Uint16(e)
		disk = append(disk, e[:4]...) // tag and permissions
		switch tag {
		case aclUser, aclGroup:
			disk = append(disk, e[4:aclXattrEntrySize]...)
		case aclUserObj, aclGroupObj, aclMask, aclOther:
		default:
			return nil, fmt.Errorf("it has an entry of the unknown kind %#x", tag)
		}
	}
	return disk, nil
}
