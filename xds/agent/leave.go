package agent

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/xds/agent/ec2"
	"github.com/causeway-mesh/causeway/xds/drain"
	"github.com/causeway-mesh/causeway/xds/resource"
)

const (
	// settle is how long callers have to hear that this host is to get nothing new.
	settle = 5 * time.Second
	// margin is how long before its end a host should be done.
	margin = 5 * time.Second
	// drainRequested is the reason of `causeway agent drain`.
	drainRequested = "DrainRequested"
)

// Leave is why this host is to get nothing new while the agent runs, and how far that is.
type Leave struct {
	// Reason is a word such as SpotInterruption, Text says more.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Since is when it began, Until how long it waits for what is under way.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Over is true once it waits no more, and Open then says what was under way still, "" for nothing.
	Over bool   `json:"over"`
	Open string `json:"open,omitempty"`

	action bool // Auto Scaling waits for a lifecycle action
}

// same reports whether two are for the same cause. Its words may change, as when EC2 moves the time.
func (l *Leave) same(other *Leave) bool {
	return l == other || l != nil && other != nil && l.Reason == other.Reason && l.Since.Equal(other.Since)
}

// cause returns why the host leaves now, nil if it does not. What EC2 announces goes before what somebody asks for.
func (a *Agent) cause(now time.Time) *Leave {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cloud != nil && a.opts.Bootstrap.Role != resource.Gateway {
		notices := a.cloud.State().Notices
		if i := slices.IndexFunc(notices, func(n ec2.Notice) bool { return n.Drains }); i >= 0 {
			n := notices[i]
			l := &Leave{Reason: n.Reason, Text: n.Text, Since: now, Until: now.Add(a.opts.DrainTimeout), action: n.Action}
			if was := a.leave; was != nil && was.Reason == l.Reason {
				l.Since, l.Until = was.Since, was.Until
			}
			// One that is over by this host's clock is wrong, the clock or the time, or nothing has happened then.
			if end := n.Deadline.Add(-margin); end.After(now) && end.Before(l.Until) {
				l.Until = now.Add(end.Sub(now)) // from now on, however the clock is set meanwhile
			}
			return l
		}
	}
	return a.asked
}

// leaving follows what makes the host leave, until the context ends. Only the agent's end ends Envoy: a host that
// drains still serves its own programs.
func (a *Agent) leaving(ctx context.Context) {
	var current *Leave
	stop := func() {}
	for {
		next := a.cause(time.Now())
		if !next.same(current) {
			stop()
			a.mu.Lock()
			a.leave = next
			a.mu.Unlock()
			a.member.Wake()
			if current = next; next == nil {
				stop = func() {}
				a.opts.Logger.Info("draining is over: this host takes part again")
			} else {
				stop = a.beginLeave(ctx, *next)
			}
		}
		a.mu.Lock()
		if a.leave != nil && next != nil && a.leave.Text != next.Text {
			said := *a.leave
			said.Text = next.Text
			a.leave = &said
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			stop()
			return
		case <-a.leaves:
		}
	}
}

// beginLeave lets what is under way end, beside the caller, and returns what ends that.
func (a *Agent) beginLeave(ctx context.Context, l Leave) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.opts.Logger.Warn("this host is to get nothing new", "reason", l.Reason, "text", l.Text, "until", l.Until)
		hold, held := context.WithCancel(ctx)
		waits := l.action && a.lifecycle != nil
		if waits {
			go a.lifecycle.Hold(hold)
		}
		open := a.empty(ctx, l.Until)
		held()
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		if a.leave.same(&l) {
			over := *a.leave
			over.Over, over.Open = true, open
			a.leave = &over
		}
		a.mu.Unlock()
		a.opts.Logger.Info("this host has drained", "open", cmp.Or(open, "nothing"))
		if !waits {
			return
		}
		if err := a.lifecycle.Complete(ctx); err != nil {
			a.opts.Logger.Warn("Auto Scaling is not told that this host may go; it waits for its hook's timeout", "error", err)
			return
		}
		a.opts.Logger.Info("Auto Scaling is told that this host may go", "group", a.lifecycle.Group, "hook", a.lifecycle.Hook)
	}()
	return func() {
		cancel()
		<-done
	}
}

// empty waits until callers have heard and nothing passes Envoy, and returns what did still at the end of the time.
func (a *Agent) empty(ctx context.Context, until time.Time) string {
	select {
	case <-ctx.Done():
		return ""
	case <-time.After(min(settle, max(0, time.Until(until)))):
	}
	a.mu.Lock()
	running := a.running
	a.mu.Unlock()
	if !running {
		return ""
	}
	if err := drain.Quiet(ctx, a.opts.Bootstrap.AdminListen, max(0, time.Until(until))); err != nil {
		return err.Error()
	}
	return ""
}

// ask makes the host leave because somebody asks for it, for a time at most, and undo takes that back.
func (a *Agent) ask(most time.Duration, now time.Time) *Leave {
	l := &Leave{Reason: drainRequested, Text: "causeway agent drain asked for it", Since: now, Until: now.Add(most)}
	a.mu.Lock()
	a.asked = l
	a.mu.Unlock()
	a.wakeLeave()
	return l
}

func (a *Agent) undo() {
	a.mu.Lock()
	a.asked = nil
	a.mu.Unlock()
	a.wakeLeave()
}

// wakeLeave says that there may be another reason to leave, or none.
func (a *Agent) wakeLeave() {
	select {
	case a.leaves <- struct{}{}:
	default:
	}
}

// newCloud sets up what EC2 is asked.
func (a *Agent) newCloud() {
	o := &a.opts.EC2
	if o.Identity == nil {
		return
	}
	metadata := ec2.NewMetadata(o.Endpoint)
	a.cloud = ec2.NewWatcher(ec2.WatchOptions{Metadata: metadata, DrainOnRebalance: o.DrainOnRebalance, Changed: a.wakeLeave, Logger: a.opts.Logger, Every: o.every})
	group := cmp.Or(o.Group, o.Identity.Group)
	if o.Hook != "" && group != "" {
		a.lifecycle = &ec2.Lifecycle{Metadata: metadata, Identity: o.Identity, Group: group, Hook: o.Hook, Logger: a.opts.Logger}
	}
}
