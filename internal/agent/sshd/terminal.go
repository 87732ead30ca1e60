package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// windowSize is the payload of a window-change, and a part of ptyRequest.
type windowSize struct {
	Columns, Rows uint32
	Width, Height uint32 // pixels; 0 if unknown
}

// ptyRequest is the payload of a pty-req.
type ptyRequest struct {
	Term          string
	Columns, Rows uint32
	Width, Height uint32
	Modes         string // see setModes
}

// terminal is a pseudo-terminal.
type terminal struct {
	master, slave *os.File
}

// openTerminal makes a terminal that belongs to the user.
func openTerminal(req ptyRequest, user *account) (*terminal, error) {
	t, err := newTerminal()
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	if err := t.prepare(req, user); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// newTerminal makes a pair of pts(4). The usual library puts the master into
// blocking mode, in which to close it does not end a Read.
func newTerminal() (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("unlock it: %w", err), master.Close())
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("get its number: %w", err), master.Close())
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	return &terminal{master: master, slave: slave}, nil
}

func (t *terminal) prepare(req ptyRequest, user *account) error {
	if !user.isSelf() {
		if err := t.chown(user); err != nil {
			return err
		}
	}
	if err := t.resize(windowSize{req.Columns, req.Rows, req.Width, req.Height}); err != nil {
		return err
	}
	return control(t.master, func(fd int) error {
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return fmt.Errorf("read the terminal's modes: %w", err)
		}
		setModes(modes, []byte(req.Modes))
		modes.Cflag = modes.Cflag&^unix.CSIZE | unix.CS8
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, modes); err != nil {
			return fmt.Errorf("set the terminal's modes: %w", err)
		}
		return nil
	})
}

// chown gives the terminal to a user, and to write(1) where there is a group
// for that.
func (t *terminal) chown(user *account) error {
	gid, mode := user.gid, os.FileMode(0o600)
	// Without the file there is no such group either.
	if tty, ok, _ := groupID(filepath.Join(etcDir, "group"), "tty"); ok {
		gid, mode = tty, 0o620
	}
	if err := t.slave.Chown(int(user.uid), int(gid)); err != nil {
		return fmt.Errorf("give the terminal to %s: %w", user.name, err)
	}
	if err := t.slave.Chmod(mode); err != nil {
		return fmt.Errorf("set the terminal's mode: %w", err)
	}
	return nil
}

func (t *terminal) name() string { return t.slave.Name() }

// resize tells programs in the terminal of its new size.
func (t *terminal) resize(size windowSize) error {
	clamp := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	err := control(t.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{
			Row: clamp(size.Rows), Col: clamp(size.Columns), Xpixel: clamp(size.Width), Ypixel: clamp(size.Height),
		})
	})
	if err != nil {
		return fmt.Errorf("resize the terminal: %w", err)
	}
	return nil
}

// typeEOF types the end-of-file character, if the terminal has one.
func (t *terminal) typeEOF() error {
	var char byte
	err := control(t.master, func(fd int) error {
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			char = modes.Cc[unix.VEOF]
		}
		return err
	})
	if err != nil || char == 0 {
		return err
	}
	_, err = t.master.Write([]byte{char})
	return err
}

func (t *terminal) close() { closeFiles(t.master, t.slave) }

// setModes applies encoded terminal modes (RFC 4254, section 8): pairs of an
// opcode and a number of four bytes, up to an opcode that ends the list or has
// no such number. Speeds and framing mean nothing to a pseudo-terminal.
func setModes(modes *unix.Termios, encoded []byte) {
	for len(encoded) >= 5 && encoded[0] > 0 && encoded[0] < 160 {
		setMode(modes, encoded[0], binary.BigEndian.Uint32(encoded[1:]))
		encoded = encoded[5:]
	}
}

func setMode(modes *unix.Termios, opcode byte, value uint32) {
	set := func(flags *uint32, bit uint32) {
		if *flags &^= bit; value != 0 {
			*flags |= bit
		}
	}
	if index, ok := controlChars[opcode]; ok {
		if value == 255 { // means "none"
			value = 0
		}
		modes.Cc[index] = byte(value)
	} else if bit, ok := inputModes[opcode]; ok {
		set(&modes.Iflag, bit)
	} else if bit, ok := localModes[opcode]; ok {
		set(&modes.Lflag, bit)
	} else if bit, ok := outputModes[opcode]; ok {
		set(&modes.Oflag, bit)
	}
}

// The opcodes of RFC 4254, section 8, and of RFC 8160 (IUTF8), as far as Linux
// has the mode.
var (
	controlChars = map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT,
		16: unix.VSWTC, 18: unix.VDISCARD,
	}
	inputModes = map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
		37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
	localModes = map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}
	outputModes = map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
)
