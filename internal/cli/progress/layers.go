package progress

import (
	"fmt"
	"strings"
	"time"

	"banger/internal/api"
)

const (
	layersPhase = "layers"
	layerPrefix = "layer-" // of the phases that are summed up
)

// layers sums up the phases of an image's layers, of which many go on side by
// side and one after the other, as one phase. How many there will be isn't
// known, so it has no total.
type layers struct {
	started, ended time.Time // ended: the last that did
	newest         map[string]api.Progress
}

func isLayer(p api.Progress) bool { return strings.HasPrefix(p.Phase, layerPrefix) }

// add takes a layer's progress and returns that of all.
func (l *layers) add(p api.Progress, now time.Time) api.Progress {
	if l.newest == nil {
		l.newest, l.started = make(map[string]api.Progress), now
	}
	l.newest[p.Phase] = p
	if p.Finished {
		l.ended = now
	}
	finished, bytes := l.sum()
	return api.Progress{
		Phase: layersPhase, Title: "layers", Done: bytes, Unit: "bytes",
		Detail: fmt.Sprintf("%d done, %d under way", finished, len(l.newest)-finished),
	}
}

// sum counts the layers that have ended and the bytes of all.
func (l *layers) sum() (finished int, bytes int64) {
	for _, p := range l.newest {
		bytes += p.Done
		if p.Finished {
			finished++
		}
	}
	return finished, bytes
}

// end returns the progress that ends the phase, and forgets the layers. It
// reports false if there are none, or not all of them are complete: then more
// may come, or something failed.
func (l *layers) end() (api.Progress, bool) {
	for _, p := range l.newest {
		if !p.Finished || p.Done < p.Total {
			return api.Progress{}, false
		}
	}
	n, bytes := l.sum()
	if n == 0 {
		return api.Progress{}, false
	}
	title := fmt.Sprintf("%d layers, %s", n, Bytes(bytes))
	if n == 1 {
		title = "1 layer, " + Bytes(bytes)
	}
	took := l.ended.Sub(l.started)
	*l = layers{}
	return api.Progress{Phase: layersPhase, Title: title, Finished: true, Millis: took.Milliseconds()}, true
}
