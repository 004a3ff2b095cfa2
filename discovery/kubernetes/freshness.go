package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// freshEvery is how often a source without errors says that it is fresh: a
// watch that is open and silent is up to date.
const freshEvery = 15 * time.Second

// sourceStatus keeps a source's SourceStatus row.
type sourceStatus struct {
	cat  *catalog.Catalog
	name string
	log  *slog.Logger

	mu      sync.Mutex
	failing bool
}

// attempted notes how a list or the opening of a watch went.
func (s *sourceStatus) attempted(ctx context.Context, err error) {
	if err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return
	}
	s.mu.Lock()
	was := s.failing
	s.failing = err != nil
	s.mu.Unlock()
	if err == nil && !was {
		return
	}
	if err != nil && !was {
		s.log.Warn("cannot read Kubernetes; what was last known keeps serving", "source", s.name, "error", err)
	}
	if err == nil {
		s.log.Info("Kubernetes answers again", "source", s.name)
	}
	s.write(func(st *discovery.SourceStatus) {
		switch {
		case err == nil:
			st.Error, st.ErrorSince = "", time.Time{}
		case st.Error == "":
			st.Error, st.ErrorSince = err.Error(), time.Now()
		default:
			st.Error = err.Error()
		}
	})
}

// freshen renews LastSync while there is no error.
func (s *sourceStatus) freshen(ctx context.Context) error {
	ticker := time.NewTicker(freshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		s.mu.Lock()
		failing := s.failing
		s.mu.Unlock()
		if !failing {
			s.write(func(*discovery.SourceStatus) {})
		}
	}
}

func (s *sourceStatus) write(change func(*discovery.SourceStatus)) {
	_, _ = s.cat.Write(time.Time{}, func(tx *catalog.Tx) error { // fails only if the schema were wrong
		s.put(tx, change)
		return nil
	})
}

func (s *sourceStatus) put(tx *catalog.Tx, change func(*discovery.SourceStatus)) {
	next := discovery.SourceStatus{Name: s.name}
	if old, ok := catalog.Sources.Get(tx.Reader, s.name); ok {
		next = *old
	}
	change(&next)
	if next.Synced && next.Error == "" {
		next.LastSync = time.Now()
	}
	catalog.Sources.Put(tx, &next)
}
