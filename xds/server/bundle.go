package server

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// bundles joins the frames of large responses into one buffer each, and shares
// it among the streams that are sent the same: when a thousand proxies connect
// at once, most ask for the same. Handing gRPC the thousands of small pieces
// instead costs it more than the sending: it collects them anew for every HTTP/2
// frame.
type bundles struct {
	mu     sync.Mutex
	recent [resource.Types][]*bundle // the most recently used first
	timer  *time.Timer               // nil while there are none
}

type bundle struct {
	frames []*snapshot.Frame
	data   mem.Buffer
	used   time.Time
}

// Limits of what is kept for others: proxies of one role, in the zones of a
// region, for as long as a herd takes.
const (
	bundlesKept = 8 // of each type
	bundleTime  = 5 * time.Second
)

// join returns the frames' bytes in one buffer, which must not be changed.
func (b *bundles) join(t resource.Type, frames []*snapshot.Frame, size int) mem.Buffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	recent := b.recent[t]
	i := slices.IndexFunc(recent, func(x *bundle) bool { return slices.Equal(x.frames, frames) })
	if i < 0 {
		x := &bundle{frames: frames, data: joined(frames, size)}
		if len(recent) < bundlesKept {
			recent = append(recent, nil)
		}
		i = len(recent) - 1
		recent[i] = x
	}
	x := recent[i]
	x.used = now
	copy(recent[1:i+1], recent[:i])
	recent[0] = x
	b.recent[t] = recent
	if b.timer == nil {
		b.timer = time.AfterFunc(bundleTime, b.expire)
	}
	return x.data
}

func joined(frames []*snapshot.Frame, size int) mem.Buffer {
	out := make([]byte, 0, size)
	var pieces mem.BufferSlice
	for _, f := range frames {
		pieces = f.AppendDelta(pieces[:0])
		for _, p := range pieces {
			out = append(out, p.ReadOnlyData()...)
		}
	}
	return mem.SliceBuffer(out)
}

// expire forgets what has not been used for a while.
func (b *bundles) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := 0
	for t := range b.recent {
		b.recent[t] = slices.DeleteFunc(b.recent[t], func(x *bundle) bool { return time.Since(x.used) >= bundleTime })
		left += len(b.recent[t])
	}
	if left == 0 {
		b.timer = nil
		return
	}
	b.timer.Reset(bundleTime)
}
