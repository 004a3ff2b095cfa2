package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Goals of the page: how long a view may take, what a hundred people who look at it hold, and how much of a core one takes.
const (
	goalView        = 200 // ms
	goalViewers     = 100 // MB
	goalViewersMany = 100 // people that goalViewers is for
	goalViewer      = 1   // percent of a core
	// lookingFor is how long people look before anything changes.
	lookingFor = 10 * time.Second
)

// views are the pages that people look at, by name.
func views() map[string]string {
	return map[string]string{
		"mesh": "/", "service": "/services/" + namespace + "/" + serviceName(0), "proxies": "/proxies", "changes": "/changes", "big": "/big",
	}
}

// views measures how long each view takes, the slowest of five.
func (b *bench) views(p params) error {
	all := views()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		slowest := 0.0
		for range 5 {
			begun := time.Now()
			if _, err := get("http://" + b.server.admin + all[name]); err != nil {
				return fmt.Errorf("%s: %w", all[name], err)
			}
			slowest = max(slowest, float64(time.Since(begun).Microseconds())/1000)
		}
		b.report.add("view_"+name, p, slowest, "ms").withGoal(goalView)
	}
	return nil
}

// look has people look at the pages, in turn, and says what they take while nothing changes. They look until stop is called.
func (b *bench) look(ctx context.Context, people int, p params) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	stop = func() {
		cancel()
		group.Wait()
	}
	before, err := usageOf(b.server.PID())
	if err != nil {
		return stop, err
	}
	all := views()
	names := slices.Sorted(maps.Keys(all))
	seen := make(chan error, people)
	for i := range people {
		group.Go(func() { follow(ctx, "http://"+b.server.admin+"/live"+all[names[i%len(names)]], seen) })
	}
	for range people {
		if err := <-seen; err != nil {
			return stop, fmt.Errorf("who looks: %w", err)
		}
	}
	begun, err := usageOf(b.server.PID())
	if err != nil {
		return stop, err
	}
	time.Sleep(lookingFor)
	after, err := usageOf(b.server.PID())
	if err != nil {
		return stop, err
	}
	held := b.report.add("viewers_rss", p, after.rss-before.rss, "MB")
	if people <= goalViewersMany {
		held.withGoal(goalViewers)
	}
	b.report.add("viewers_cpu", p, 100*(after.cpu-begun.cpu).Seconds()/lookingFor.Seconds()/float64(people), "%/viewer").withGoal(goalViewer)
	return stop, nil
}

// follow reads the events of a page until the context ends, and tells seen of the first one, or why there is none.
func follow(ctx context.Context, url string, seen chan<- error) {
	first := sync.OnceFunc(func() { seen <- nil })
	err := func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, answer.Status)
		}
		for events := bufio.NewReader(answer.Body); ; {
			if _, err := events.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return fmt.Errorf("%s ended: %w", url, err)
			}
			first()
		}
	}()
	if ctx.Err() == nil {
		select {
		case seen <- err:
		default:
		}
	}
}
