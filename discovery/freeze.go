package discovery

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Freeze is an order that nothing may move for the time of an incident. There is at most one
// row: what all owners have ordered, together.
type Freeze struct {
	Scope string
	// Config is true if besides the steps of shifts all configuration but endpoints is frozen.
	Config bool
	// By and Reason are those of all Orders.
	By, Reason string
	// Since tells this freeze from others: as long as anybody freezes configuration, it stays
	// what it was when the first did, whoever lifts theirs meanwhile.
	Since time.Time
	// Orders of the owners, in the order in which they came; at least one.
	Orders []FreezeOrder
}

// FreezeOrder is what one owner has ordered.
type FreezeOrder struct {
	Config bool      `json:"config"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// FreezeRecord is a freeze as it is stored. One of before there were owners has no orders and is
// that of the one who is named; the other fields are what releases of that time read.
type FreezeRecord struct {
	FreezeOrder

	Orders []FreezeOrder `json:"orders,omitempty"`
}

// Record returns what is stored, nil for no freeze.
func (f *Freeze) Record() *FreezeRecord {
	if f == nil {
		return nil
	}
	return &FreezeRecord{FreezeOrder{f.Config, f.By, f.Reason, f.Since}, f.Orders}
}

// Freeze returns the freeze that was stored, nil for none.
func (rec *FreezeRecord) Freeze(scope string) *Freeze {
	if rec == nil {
		return nil
	}
	orders := rec.Orders
	if len(orders) == 0 {
		orders = []FreezeOrder{rec.FreezeOrder}
	}
	return &Freeze{Scope: scope, Config: rec.Config, By: rec.By, Reason: rec.Reason, Since: rec.Since, Orders: orders}
}

// UnreadableFreeze stands in for a freeze that cannot be read: nothing may begin to move by a
// spoiled record, and somebody wanted a freeze.
func UnreadableFreeze(scope, record string, err error, since time.Time) *Freeze {
	if since.IsZero() {
		since = time.Now()
	}
	const owner = "causeway"
	return (*Freeze)(nil).With(scope, FreezeOrder{
		Config: true, By: owner, Since: since,
		Reason: fmt.Sprintf("%s cannot be read (%v); if nothing is to be frozen: causeway unfreeze --owner %s --reason \"...\"", record, err, owner),
	})
}

// With returns a freeze, nil for none, with one more order. A second one of an owner adds to the
// first: it lifts nothing.
func (f *Freeze) With(scope string, o FreezeOrder) *Freeze {
	o.Since = o.Since.UTC().Truncate(time.Second)
	var orders []FreezeOrder
	if f != nil {
		orders = slices.Clone(f.Orders)
	}
	i := slices.IndexFunc(orders, func(have FreezeOrder) bool { return have.By == o.By })
	if i < 0 {
		return f.together(scope, append(orders, o))
	}
	have := &orders[i]
	have.Config = have.Config || o.Config
	if o.Reason != "" {
		have.Reason = o.Reason
	}
	return f.together(scope, orders)
}

// Without returns what remains once an owner's order is lifted, nil for nothing, and whether
// there was one.
func (f *Freeze) Without(owner string) (*Freeze, bool) {
	if f == nil {
		return nil, false
	}
	orders := slices.DeleteFunc(slices.Clone(f.Orders), func(o FreezeOrder) bool { return o.By == owner })
	if len(orders) == len(f.Orders) {
		return f, false
	}
	return f.together(f.Scope, orders), true
}

// together returns the freeze of some orders, nil for none, where f held before.
func (f *Freeze) together(scope string, orders []FreezeOrder) *Freeze {
	if len(orders) == 0 {
		return nil
	}
	out := &Freeze{Scope: scope, Orders: orders}
	var names, reasons []string
	for _, o := range orders {
		out.Config = out.Config || o.Config
		names = append(names, o.By)
		switch {
		case o.Reason == "":
		case len(orders) == 1:
			reasons = append(reasons, o.Reason)
		default:
			reasons = append(reasons, o.By+": "+o.Reason)
		}
	}
	out.By, out.Reason = strings.Join(names, " and "), strings.Join(reasons, "; ")
	if f != nil && f.Config && out.Config {
		out.Since = f.Since
		return out
	}
	for _, o := range orders {
		if o.Config == out.Config && (out.Since.IsZero() || o.Since.Before(out.Since)) {
			out.Since = o.Since
		}
	}
	return out
}

// Text says what is frozen, with a line for each who ordered it.
func (f *Freeze) Text() string {
	orders := f.Orders
	if len(orders) == 0 { // an older control plane answers
		orders = []FreezeOrder{{Config: f.Config, By: f.By, Reason: f.Reason, Since: f.Since}}
	}
	lines := make([]string, len(orders))
	for i, o := range orders {
		what := "all steps are frozen"
		if o.Config {
			what = "all steps and all configuration but endpoints are frozen"
		}
		lines[i] = fmt.Sprintf("%s by %s since %s", what, o.By, o.Since.Local().Format(time.DateTime))
		if o.Reason != "" {
			lines[i] += ": " + o.Reason
		}
	}
	return strings.Join(lines, "\n")
}
