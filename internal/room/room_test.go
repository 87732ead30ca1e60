package room

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"banger/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatch(t *testing.T) {
	var free atomic.Int64
	free.Store(Reserve)
	l := Limit{Dir: "/somewhere", Hint: "make room", Free: func(string) (int64, error) { return free.Load(), nil }}
	ctx, stop := l.Watch(t.Context())
	if ctx.Err() != nil {
		t.Fatal(context.Cause(ctx))
	}
	free.Store(Reserve - 1)
	<-ctx.Done()
	stop()
	var full *FullError
	err := context.Cause(ctx)
	if !errors.As(err, &full) || !errors.Is(err, api.ErrHost) || !strings.Contains(err.Error(), "512 MiB") || api.AsError(err).Hint != "make room" {
		t.Errorf("got %v", err)
	}
	ctx, stop = Limit{Dir: "/nonexistent"}.Watch(t.Context())
	stop()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("where the room isn't known: %v", err)
	}
}

func TestCheck(t *testing.T) {
	l := Limit{Dir: "/somewhere", Free: func(string) (int64, error) { return Reserve + 100, nil }}
	for _, tt := range []struct {
		sizes []int64
		ok    bool
	}{
		{nil, true},
		{[]int64{50, 50}, true},
		{[]int64{50, 51}, false},
		{[]int64{math.MaxInt64, math.MaxInt64, 2}, false},
	} {
		if err := l.Check(tt.sizes...); (err == nil) != tt.ok || err != nil && !errors.Is(err, api.ErrHost) {
			t.Errorf("%d: %v", tt.sizes, err)
		}
	}
}

func TestFree(t *testing.T) {
	if free, err := Free(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := Free("/nonexistent"); err == nil {
		t.Error("what isn't there has room")
	}
}
