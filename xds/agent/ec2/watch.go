package ec2

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// pollEvery is how often notices are asked for, as AWS advises, and pollMost the pause while the service is away.
	pollEvery, pollMost = 5 * time.Second, 20 * time.Second
	// misses is how many questions in a row may fail before it is said: the service limits how often it is asked.
	misses = 2
)

// WatchOptions are those of a Watcher.
type WatchOptions struct {
	Metadata *Metadata
	// DrainOnRebalance makes a rebalance recommendation one that drains.
	DrainOnRebalance bool
	// Changed is called when there are other notices.
	Changed func()
	Logger  *slog.Logger
	// Every is how often it asks; 0 is every 5 seconds.
	Every time.Duration
}

// State is what EC2 has said last.
type State struct {
	// Reachable is whether the metadata service answers, Error why it does not.
	Reachable bool     `json:"reachable"`
	Error     string   `json:"error,omitempty"`
	Notices   []Notice `json:"notices,omitempty"`
}

// Watcher asks for notices again and again. While the service is away, what it said last holds.
type Watcher struct {
	opts WatchOptions

	mu    sync.Mutex
	state State
}

// NewWatcher returns a watcher, which has nothing to say before it runs.
func NewWatcher(o WatchOptions) *Watcher {
	if o.Every == 0 {
		o.Every = pollEvery
	}
	return &Watcher{opts: o, state: State{Reachable: true}}
}

// State returns what is known now.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Notices = slices.Clone(s.Notices)
	return s
}

// Run asks until the context ends.
func (w *Watcher) Run(ctx context.Context) {
	failed, pause := 0, w.opts.Every
	for {
		notices, err := w.opts.Metadata.Notices(ctx, time.Now(), w.opts.DrainOnRebalance)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed++
			if failed >= misses {
				pause = min(2*pause, max(pollMost, w.opts.Every))
				w.away(err)
			}
		default:
			failed, pause = 0, w.opts.Every
			w.take(notices)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause - pause/10 + rand.N(pause/5+1)): //nolint:gosec // spreads questions
		}
	}
}

func (w *Watcher) away(err error) {
	w.mu.Lock()
	was := w.state.Reachable
	w.state.Reachable, w.state.Error = false, err.Error()
	w.mu.Unlock()
	if was {
		w.opts.Logger.Warn("EC2's notices cannot be read; this host serves on, and hears of its end from systemd and the control plane alone", "error", err)
	}
}

func (w *Watcher) take(notices []Notice) {
	w.mu.Lock()
	was, before := w.state.Reachable, w.state.Notices
	w.state = State{Reachable: true, Notices: notices}
	w.mu.Unlock()
	if !was {
		w.opts.Logger.Info("EC2's notices can be read again")
	}
	if slices.Equal(before, notices) {
		return
	}
	for _, n := range notices {
		if !slices.Contains(before, n) {
			w.opts.Logger.Warn("EC2 has a notice for this host", "reason", n.Reason, "text", n.Text, "drains", n.Drains)
		}
	}
	w.opts.Changed()
}
