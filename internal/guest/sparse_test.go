package guest

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSparse(t *testing.T) {
	for _, content := range [][]Segment{nil, {{0, 10}}, {{4096, 10}, {4106, 1}, {math.MaxInt64 - 7, 3}}} {
		inStream := int64(0)
		for _, s := range content {
			inStream += s.Length
		}
		size, got, err := ParseSparse(FormatSparse(math.MaxInt64, content), inStream)
		if err != nil || size != math.MaxInt64 || !cmp.Equal(got, content) {
			t.Errorf("%v became %v of %d, %v", content, got, size, err)
		}
	}
	for _, bad := range []string{"", "x", "-1", "10,1", "10,-1,6", "10,8,5", "10,5,5,4,0", "10,0,4", "10,0,5,7,9223372036854775807", "1,2,3,", "9223372036854775808"} {
		if size, got, err := ParseSparse(bad, 5); err == nil {
			t.Errorf("%q is %v of %d", bad, got, size)
		}
	}
}
