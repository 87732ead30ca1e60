// Command poser is what the tests of the network run in a guest: it sends
// frames that claim another one's addresses, and connects to see who is who.
//
//	poser claim INTERFACE MAC IP    say in many ways that the interface has them
//	poser serve ADDRESS WORDS       answer each TCP client with the words
//	poser dial ADDRESS              print what a TCP server says, if it does
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "poser:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "claim":
		return claim(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) == 2 && args[0] == "dial":
		return dial(args[1])
	}
	return errors.New("see its source")
}

// rounds is how often each claim is made.
const rounds = 100

func claim(link, mac, ip string) error {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: iface.Index}
	for range rounds {
		for _, src := range []net.HardwareAddr{iface.HardwareAddr, hw} {
			for _, f := range claims(src, hw, addr) {
				if err := unix.Sendto(fd, f, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
					return err
				}
			}
		}
	}
	return nil
}

// claims are frames from src that say that addr is at hw: by ARP and by having
// it as sender, also behind VLAN tags.
func claims(src, hw net.HardwareAddr, addr netip.Addr) [][]byte {
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame := func(rest ...[]byte) []byte {
		return slices.Concat(append([][]byte{everybody, src}, rest...)...)
	}
	arp := func(operation byte) []byte {
		return slices.Concat([]byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation}, hw, addr.AsSlice(), everybody, addr.AsSlice(), make([]byte, 18))
	}
	const header, udp = 20, 17
	ip := slices.Concat([]byte{0x45, 0, 0, header, 0, 0, 0, 0, 64, udp, 0, 0}, addr.AsSlice(), []byte{255, 255, 255, 255})
	var sum uint32
	for i := 0; i < header; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	datagram := slices.Concat([]byte{8, 0}, ip, make([]byte, 26))
	vlan0, vlan5 := []byte{0x81, 0, 0, 0}, []byte{0x88, 0xa8, 0, 5}
	return [][]byte{
		frame(arp(1)), frame(arp(2)), frame(datagram),
		frame(vlan0, arp(2)), frame(vlan0, datagram), frame(vlan5, vlan0, arp(2)), frame(vlan5, vlan0, datagram),
	}
}

func serve(addr, words string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, words)
		_ = c.Close()
	}
}

// dialTimeout is long for a virtual network, even of emulated guests.
const dialTimeout = 5 * time.Second

func dial(addr string) error {
	c, err := net.DialTimeout("tcp4", addr, dialTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	said, err := io.ReadAll(io.LimitReader(c, 100))
	if err != nil && len(said) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) { // a silent server is one, too
		return err
	}
	_, err = os.Stdout.Write(append(said, '\n'))
	return err
}
