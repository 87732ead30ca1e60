// Package serialmux carries any number of connections over one byte stream,
// such as a virtio-serial port, either side of which may restart at any time
// without the other being told.
//
// Above is yamux, with one stream per connection. A stream begins with the
// port that it goes to (4 bytes, big-endian), answered by one byte: 0 it is
// open, 1 nothing listens there.
//
// Below is a framing that can be entered at any byte. The byte 0x10 is an
// escape: 0x10 0x00 stands for a 0x10 of the payload; 0x10 0x01 and 16 hex
// digits, a nonce, are a reset marker. A host that connects sends a marker with
// a new nonce and throws away all it reads up to a marker with that nonce. A
// guest ends its session at any marker, sends the marker back and starts a new
// session right behind it. A guest that has started anew sends a marker with a
// nonce of zeros; a host in a session that reads it starts over.
//
// The guest trusts the host, and the host doesn't trust the guest: see gate for
// what it lets through, and Host for how long it waits.
//
// A side that died in the middle of an escape or a marker leaves a sequence
// that the escape of the next marker makes invalid. A reader ends its session
// there and looks for the marker from that very escape on, so none is missed.
package serialmux
