package discovery

import (
	"errors"
	"fmt"
	"time"
)

// FreezeRequest is what somebody wants to be frozen or no longer frozen.
type FreezeRequest struct {
	// By is who asks, and Formerly another name that an earlier release knew them by.
	By       string `json:"by"`
	Formerly string `json:"formerly,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Config freezes all configuration but endpoints too.
	Config bool `json:"config,omitempty"`
	// Lift ends a freeze: that of Owner, "" for one's own.
	Lift  bool   `json:"lift,omitempty"`
	Owner string `json:"owner,omitempty"`
}

// FreezeAnswer is what is frozen then.
type FreezeAnswer struct {
	Freeze *Freeze `json:"freeze,omitempty"`
}

// Change returns what the request makes of a freeze, nil for none.
func (r *FreezeRequest) Change(f *Freeze, now time.Time) (*Freeze, error) {
	switch {
	case r.By == "":
		return nil, errors.New("a freeze has an owner: let causeway freeze or causeway unfreeze ask")
	case !r.Lift:
		scope := ""
		if f != nil {
			scope = f.Scope
		}
		return f.With(scope, FreezeOrder{Config: r.Config, By: r.By, Reason: r.Reason, Since: now}), nil
	case r.Owner != "" && r.Owner != r.By && r.Reason == "":
		return nil, fmt.Errorf("this is the freeze of %s: say why it is lifted, with --reason", r.Owner)
	case f == nil:
		return nil, nil //nolint:nilnil // nothing was frozen, and nothing is
	}
	owners := []string{r.Owner}
	if r.Owner == "" {
		owners = []string{r.By, r.Formerly}
	}
	lifted := false
	for _, owner := range owners {
		next, ok := f.Without(owner)
		lifted = lifted || ok
		if f = next; f == nil {
			return nil, nil //nolint:nilnil // that was the last one
		}
	}
	if !lifted {
		who := r.By + " has"
		if r.Owner != "" {
			who = r.Owner + " has"
		}
		return nil, fmt.Errorf("%s frozen nothing, and this stays:\n%s\n%s", who, f.Text(), f.Remedy())
	}
	return f, nil
}

// Remedy says how to lift what others have frozen.
func (f *Freeze) Remedy() string {
	return fmt.Sprintf("to lift another's: causeway unfreeze --owner %s --reason \"...\"", f.Orders[0].By)
}
