package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/observe"
)

// Changes are what changed lately, newest first.
type Changes struct {
	Time    time.Time `json:"time"`
	Changes []Change  `json:"changes"`
}

// Change is one thing that changed.
type Change struct {
	Time time.Time `json:"time"`
	// What is added, changed or removed for an object, an event of a TrafficShift, or frozen.
	What      string `json:"what"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Generation of an object, 0 where it has none.
	Generation int64 `json:"generation,omitempty"`
	// By is who did it, "" where nobody has said. Of an object it is the field manager that changed it, for example
	// kubectl-edit: which person that was is in the API server's audit log.
	By string `json:"by,omitempty"`
	// Detail in a sentence.
	Detail string `json:"detail,omitempty"`
	// State says who has an object's newest generation, "" for older ones and for what no proxy is told.
	State string `json:"state,omitempty"`
}

// maxChanges is how many changes of objects are kept: some 200 KiB.
const maxChanges = 500

// Log keeps which objects have changed since this control plane was started.
type Log struct {
	mu      sync.Mutex
	changes []Change // oldest first
}

// Run notes changes of the catalog until the context ends; its only error is the context's. What is there at the
// beginning, or is read while ready says no, is no change.
func (l *Log) Run(ctx context.Context, c *catalog.Catalog, ready func() bool) error {
	feed := c.Subscribe()
	defer feed.Close()
	feed.Take()
	for {
		before := ready()
		b, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		if before {
			l.note(b.Changes, time.Now())
		}
	}
}

// note adds the changes of objects and Services.
func (l *Log) note(changes []catalog.Change, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		before, had := refOf(c.Before)
		after, has := refOf(c.After)
		out := Change{Time: now.UTC().Truncate(time.Second), What: "changed", Generation: after.Generation}
		switch {
		case !had && !has:
			continue
		case !has:
			out.What, after = "removed", before
		case !had:
			out.What = "added"
		case before.Generation == after.Generation:
			continue // its annotations, say, or a status
		}
		if after.Kind == discovery.KindNamespace || after.Kind == discovery.KindSecret {
			continue
		}
		if o, ok := c.After.(*discovery.Object); ok && o != nil {
			out.By = o.Editor
		}
		out.Kind, out.Namespace, out.Name = after.Kind, after.Namespace, after.Name
		l.changes = append(l.changes, out)
	}
	if n := len(l.changes) - maxChanges; n > 0 {
		l.changes = slices.Delete(l.changes, 0, n)
	}
}

func refOf(row any) (discovery.ObjectRef, bool) {
	switch row := row.(type) {
	case *discovery.Object:
		if row != nil {
			return row.Ref(), true
		}
	case *discovery.Service:
		if row != nil {
			return discovery.ObjectRef{Kind: discovery.KindService, Key: row.Key, Generation: row.Generation}, true
		}
	}
	return discovery.ObjectRef{}, false
}

// ChangesOf returns what changed: objects, what happened to shifts, and freezes.
func ChangesOf(l *Log, shifts []v1alpha1.TrafficShift, freeze *discovery.Freeze, programmed []observe.ProgrammedRow, now time.Time) *Changes {
	l.mu.Lock()
	v := &Changes{Time: now.UTC(), Changes: slices.Clone(l.changes)}
	l.mu.Unlock()
	state := make(map[discovery.ObjectName]*observe.ProgrammedRow, len(programmed))
	for i := range programmed {
		p := &programmed[i]
		state[discovery.ObjectName{Kind: p.Kind, Key: discovery.Key{Namespace: p.Namespace, Name: p.Name}}] = p
	}
	for i := range v.Changes {
		c := &v.Changes[i]
		if p := state[discovery.ObjectName{Kind: c.Kind, Key: discovery.Key{Namespace: c.Namespace, Name: c.Name}}]; p != nil && p.Generation == c.Generation && c.What != "removed" {
			c.State = p.Reason
			if p.Reason != observe.ReasonProgrammed {
				c.State += ": " + p.Message
			}
		}
	}
	for i := range shifts {
		s := &shifts[i]
		for j := range s.Status.History {
			h := &s.Status.History[j]
			detail := string(h.To) + " %"
			if h.From != h.To {
				detail = string(h.From) + " % to " + detail
			}
			if h.Reason != "" {
				detail += ": " + h.Reason
			}
			v.Changes = append(v.Changes, Change{
				Time: h.Time.UTC(), What: string(h.Event), Kind: discovery.KindTrafficShift, Namespace: s.Namespace, Name: s.Name, By: h.Actor, Detail: detail,
			})
		}
	}
	if freeze != nil {
		for _, o := range freeze.Orders {
			what := "all shifts"
			if o.Config {
				what = "all shifts and all configuration but endpoints"
			}
			v.Changes = append(v.Changes, Change{Time: o.Since.UTC(), What: "frozen", Kind: "Freeze", Name: what, By: o.By, Detail: o.Reason})
		}
	}
	slices.SortStableFunc(v.Changes, func(a, b Change) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Name, b.Name)) })
	v.Changes = v.Changes[:min(len(v.Changes), maxChanges)]
	if v.Changes == nil {
		v.Changes = []Change{}
	}
	return v
}
