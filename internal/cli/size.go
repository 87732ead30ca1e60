package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"banger/internal/cli/progress"
)

// sizeFlag is a flag value such as 2G. Units are powers of 1024, with or
// without "B" or "iB", in either case.
type sizeFlag struct {
	bytes int64
	bare  int64 // unit of a number without one, in bytes; 0: a unit is needed
	least int64 // smallest value, in bytes
}

// String formats the value; "" if it was never set.
func (f *sizeFlag) String() string {
	if f.bytes == 0 {
		return ""
	}
	return progress.Bytes(f.bytes)
}

// Type is what help shows in place of the value.
func (f *sizeFlag) Type() string { return "size" }

// Set parses a value.
func (f *sizeFlag) Set(text string) error {
	n, err := parseSize(text, f.bare)
	if err != nil {
		return err
	}
	if n < f.least {
		return fmt.Errorf("%s is too small, the least is %s", text, progress.Bytes(f.least))
	}
	f.bytes = n
	return nil
}

// parseSize returns a number of bytes; see sizeFlag.
func parseSize(text string, bare int64) (int64, error) {
	digits := strings.TrimRight(text, "bBiIkKmMgGtT ")
	unit := strings.ToUpper(strings.TrimSpace(text[len(digits):]))
	factor, ok := map[string]int64{
		"": bare, "B": 1,
		"K": 1 << 10, "KB": 1 << 10, "KIB": 1 << 10,
		"M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20,
		"G": 1 << 30, "GB": 1 << 30, "GIB": 1 << 30,
		"T": 1 << 40, "TB": 1 << 40, "TIB": 1 << 40,
	}[unit]
	value, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a size such as 2G or 512M", text)
	}
	if factor == 0 {
		return 0, fmt.Errorf("%q needs a unit, for instance %sG", text, text)
	}
	// 2^53 bytes are 8 PiB; up to there a float64 is exact.
	if value *= float64(factor); value > 1<<53 {
		return 0, fmt.Errorf("%s is too large", text)
	}
	return int64(math.Round(value)), nil
}
