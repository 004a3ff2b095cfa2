package replica

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

const (
	// leavesEvery is how often what is heard is looked at without being told to.
	leavesEvery = 10 * time.Second
	// leavesStale is how old what others are told may become.
	leavesStale = time.Minute
)

// LeavesOptions are those of Leaves.
type LeavesOptions struct {
	// Identity is this replica's, and Store is where replicas see each other's, nil where there is one replica.
	Identity string
	Store    interface {
		Change(ctx context.Context, change func(map[string][]byte)) error
	}
	// Heard returns what agents say to this replica, and Apply takes what they say to all of them.
	Heard func(now time.Time) []discovery.Leaving
	Apply func(list []discovery.Leaving, now time.Time)
	// Changed wakes it.
	Changed <-chan struct{}
	Log     *slog.Logger
}

// Leaves brings what agents say to one replica, that their host is to get nothing new, to the replica that reads EC2.
type Leaves struct {
	LeavesOptions
	stored []discovery.Leaving
	taken  chan struct{}

	mu      sync.Mutex
	records map[string][]byte
}

// NewLeaves returns leaves that do nothing until they run.
func NewLeaves(o LeavesOptions) *Leaves {
	return &Leaves{LeavesOptions: o, taken: make(chan struct{}, 1)}
}

// Take takes over what replicas have stored.
func (l *Leaves) Take(records map[string][]byte) {
	l.mu.Lock()
	l.records = records
	l.mu.Unlock()
	select {
	case l.taken <- struct{}{}:
	default:
	}
}

// Run tells and applies until the context ends.
func (l *Leaves) Run(ctx context.Context) error {
	ticker := time.NewTicker(leavesEvery)
	defer ticker.Stop()
	for {
		l.turn(ctx, time.Now())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-l.Changed:
		case <-l.taken:
		}
	}
}

// turn tells others what is new, and applies what all have heard.
func (l *Leaves) turn(ctx context.Context, now time.Time) {
	own := l.Heard(now)
	if l.Store == nil {
		l.Apply(own, now)
		return
	}
	if l.due(own, now) {
		err := l.Store.Change(ctx, func(records map[string][]byte) {
			if len(own) == 0 {
				delete(records, l.Identity)
			} else if data, err := json.Marshal(own); err == nil {
				records[l.Identity] = data
			}
			for key, data := range records { // of a replica that is gone
				if key != l.Identity && len(current(data, now)) == 0 {
					delete(records, key)
				}
			}
		})
		if err != nil {
			l.Log.Warn("other replicas do not hear which hosts drain; trying again", "error", err)
		} else {
			l.stored = own
		}
	}
	l.mu.Lock()
	records := l.records
	l.mu.Unlock()
	l.Apply(union(records, l.Identity, own, now), now)
}

// due reports whether others have to be told: of something new, or that it still holds.
func (l *Leaves) due(own []discovery.Leaving, now time.Time) bool {
	same := slices.EqualFunc(own, l.stored, func(a, b discovery.Leaving) bool {
		return a.Instance == b.Instance && a.Namespace == b.Namespace && a.Reason == b.Reason && b.Heard.After(now.Add(-leavesStale))
	})
	return !same
}

// current returns what a record says that still holds.
func current(data []byte, now time.Time) []discovery.Leaving {
	var list []discovery.Leaving
	if json.Unmarshal(data, &list) != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(x discovery.Leaving) bool { return now.Sub(x.Heard) >= discovery.LeavingFor })
}

// union returns what all replicas have heard, in an order of its own.
func union(records map[string][]byte, identity string, own []discovery.Leaving, now time.Time) []discovery.Leaving {
	out := slices.Clone(own)
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if key != identity {
			out = append(out, current(records[key], now)...)
		}
	}
	return out
}
