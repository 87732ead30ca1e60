package guest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// SparseRecord is the PAX record of a sparse file in a tar stream to the agent:
// its content there is only what isn't in its holes. The value is the file's
// size and, for each piece of content in order, its offset and length, all in
// decimal bytes and separated by commas.
//
// It is none of tar's own forms, GNU.sparse: package archive/tar doesn't write
// those, and reads holes as zeros, which cost a slow guest as much as content.
const SparseRecord = "BANGER.sparse"

// Segment is a piece of a file that isn't in a hole.
type Segment struct{ Offset, Length int64 }

// FormatSparse returns the value of SparseRecord.
func FormatSparse(size int64, content []Segment) string {
	value := strconv.AppendInt(nil, size, 10)
	for _, s := range content {
		value = fmt.Appendf(value, ",%d,%d", s.Offset, s.Length)
	}
	return string(value)
}

// ParseSparse reads the value of SparseRecord of a file that has so many bytes in
// the stream.
func ParseSparse(value string, inStream int64) (size int64, content []Segment, err error) {
	var numbers []int64
	for word := range strings.SplitSeq(value, ",") {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 0 {
			return 0, nil, fmt.Errorf("%q is no number of bytes", word)
		}
		numbers = append(numbers, n)
	}
	size, numbers = numbers[0], numbers[1:]
	for end := int64(0); len(numbers) > 0; numbers = numbers[2:] {
		if len(numbers) == 1 || numbers[0] < end || numbers[1] > size-numbers[0] {
			return 0, nil, errors.New("the pieces of a sparse file make none")
		}
		end = numbers[0] + numbers[1]
		inStream -= numbers[1]
		content = append(content, Segment{numbers[0], numbers[1]})
	}
	if inStream != 0 {
		return 0, nil, errors.New("the pieces of a sparse file are not as many bytes as it has")
	}
	return size, content, nil
}
