package ec2

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Limits of the loop of one account and region.
const (
	// sweepTimeout is how long one sweep may take, retries and waiting for a throttled API included.
	sweepTimeout = time.Minute
	// sweepGap is the least time between two sweeps, however many events come.
	sweepGap = 2 * time.Second
	// maxFailedInterval is the longest time between sweeps that fail, however long the interval is.
	// A broken API hides more and more changes, so its return must be seen soon.
	maxFailedInterval = 15 * time.Second
	// maxThrottledInterval is the longest time between sweeps while they are
	// throttled.
	maxThrottledInterval = 2 * time.Minute
	// maxRetryBackoff is the longest wait between two attempts of one call.
	maxRetryBackoff = 5 * time.Second
)

// account is the loop that reads one account and region.
type account struct {
	source  *Source
	key     accountKey
	log     *slog.Logger
	retryer aws.Retryer
	// clients are nil until the first sweep and after one that failed, so that
	// renewed credentials are found.
	clients *clients
	// foreignZones is true once it was said that zones are compared by name.
	foreignZones bool
	wake         chan struct{}
	cancel       context.CancelFunc
	done         chan struct{}
}

func (s *Source) newAccount(key accountKey) *account {
	return &account{
		source: s, key: key, log: s.log.With("account", key.account(), "region", key.region),
		retryer: newRetryer(min(maxRetryBackoff, s.interval/3)),
		wake:    make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func (a *account) start(ctx context.Context, running *sync.WaitGroup) {
	ctx, a.cancel = context.WithCancel(ctx)
	running.Go(func() {
		defer close(a.done)
		defer a.cancel()
		a.run(ctx)
	})
}

// poke asks for a sweep soon.
func (a *account) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sweeps when the interval is over. When it is poked it sweeps earlier, but
// not before sweepGap has passed since the last sweep began, nor before a
// throttled API has had its rest.
func (a *account) run(ctx context.Context) {
	var (
		due, earliest = time.Now(), time.Now()
		poked         bool
		pace          = pace{interval: a.source.interval}
		lastError     string
	)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := due
		if poked && earliest.Before(due) {
			at = earliest
		}
		timer.Reset(time.Until(at))
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			poked = true
			continue
		case <-timer.C:
		}
		poked = false
		start := time.Now()
		err := a.sweep(ctx)
		if ctx.Err() != nil {
			return
		}
		due, earliest = pace.next(err, start, time.Now())
		switch {
		case err != nil && explain(err) != lastError:
			lastError = explain(err)
			a.log.Warn("cannot read EC2; what was last known stays", "error", lastError, "next", max(0, time.Until(due)).Round(time.Millisecond))
		case err == nil && lastError != "":
			a.log.Info("EC2 can be read again")
			lastError = ""
		}
	}
}

// pace says when to sweep next.
type pace struct {
	interval          time.Duration
	failed, throttled int // sweeps in a row
}

// next returns when the next sweep is due after one that began at start and
// ended now, and when it may begin at the earliest if it is asked for sooner.
// After a failure both count from now, so that a sweep that lasted longer than
// the interval is not followed by the next one at once.
func (p *pace) next(err error, start, now time.Time) (due, earliest time.Time) {
	switch {
	case err == nil:
		p.failed, p.throttled = 0, 0
		return later(start.Add(jitter(p.interval)), now), start.Add(min(sweepGap, p.interval))
	case callOutcome(err) == outcomeThrottled:
		p.failed, p.throttled = 0, p.throttled+1
		wait := min(p.interval<<min(p.throttled, 5), max(p.interval, maxThrottledInterval))
		return now.Add(jitter(wait)), now.Add(wait)
	default:
		p.throttled = 0
		wait := min(sweepGap<<min(p.failed, 5), maxFailedInterval, p.interval)
		p.failed++
		return now.Add(jitter(wait)), start.Add(min(sweepGap, p.interval))
	}
}

// jitter spreads loops that started together: a tenth up or down.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1) //nolint:gosec // nothing secret
}

// sweep reads the account and region and writes down what it says. On any
// error nothing but the statuses is written.
func (a *account) sweep(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	err := a.readAndApply(ctx)
	outcome := outcomeOK
	if err != nil {
		outcome = outcomeError
		if callOutcome(err) != outcomeThrottled {
			a.clients = nil
		}
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			a.source.fail(a.key, err, time.Now())
		}
	}
	a.source.metrics.sweeps.WithLabelValues(a.key.account(), a.key.region, outcome).Observe(time.Since(start).Seconds())
	return err
}

func (a *account) readAndApply(ctx context.Context) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	ans, err := a.clients.read(ctx, a.source.pageSize)
	if err != nil {
		return err
	}
	if err := a.source.checkAccount(a.key, ans); err != nil {
		return err
	}
	if a.key.roleARN != "" {
		names, err := a.source.ownZones(ctx, a)
		switch {
		case err == nil:
			ans.renameZones(names)
		case !a.foreignZones:
			// Nothing but the preference for near endpoints depends on it.
			a.foreignZones = true
			a.log.Warn("cannot tell which zones of this account are which of Causeway's own; they are compared by name", "error", explain(err))
		}
	}
	confirmed := make(map[string]string)
	if doubtful := a.source.doubtful(a.key, ans, time.Now()); len(doubtful) > 0 {
		// An error here leaves the guard without this second source, no more.
		if confirmed, err = a.clients.confirm(ctx, doubtful); err != nil {
			a.log.Warn("cannot ask EC2 for the instances that an answer did not account for", "instances", len(doubtful), "error", explain(err))
		}
	}
	return a.source.apply(a.key, ans, confirmed, time.Now())
}

func (a *account) connect(ctx context.Context) error {
	if a.clients != nil {
		return nil
	}
	cfg, err := a.source.awsConfig(ctx, a.key, a.source.http, a.retryer)
	if err != nil {
		return err
	}
	a.clients = newClients(cfg)
	return nil
}
